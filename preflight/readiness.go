// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// readiness: without a probe a pod is ready as soon as its processes have started. A roll replaces every pod once, and once load
// balancers target nodes, nobody but the kubelet asks a pod whether it can serve.
func readiness(s *Snapshot) []Finding {
	if s.unseen("services", "pods") {
		return []Finding{unknown("not all Services and pods were seen, so neither was which pods have a readiness probe")}
	}
	bare := slices.DeleteFunc(slices.Clone(s.Traffic.Workloads), func(w Workload) bool { return len(w.Unprobed) == 0 })
	if len(bare) == 0 {
		return []Finding{pass("the %d workloads behind Services have readiness probes", len(s.Traffic.Workloads))}
	}
	slices.SortFunc(bare, func(a, b Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Object, b.Object))
	})
	var out []Finding
	for len(bare) > 0 {
		n := slices.IndexFunc(bare, func(w Workload) bool { return w.Namespace != bare[0].Namespace })
		if n < 0 {
			n = len(bare)
		}
		out = append(out, unprobed(bare[:n]))
		bare = bare[n:]
	}
	return out
}

// unprobed are workloads of one namespace.
func unprobed(workloads []Workload) Finding {
	f := warn("%d workloads behind Services of namespace %s have no readiness probe: a replaced pod gets requests before it can answer them, and a broken one for ever", len(workloads), workloads[0].Namespace)
	for _, w := range workloads {
		f.Objects = append(f.Objects, w.Namespace+"/"+w.Object)
		for _, p := range w.Unprobed {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%s: container %s, port %d, behind Service %s", w.Object, p.Container, p.Number, strings.Join(w.Services, ", ")))
		}
	}
	f.Mend = workloads[0].probe()
	if len(workloads) > 1 {
		f.Mend += " (so each of them; an HTTP path that answers only when the program can serve is better than an open port)"
	}
	return f
}

// probe is the command for the least that a probe can ask.
func (w *Workload) probe() string {
	p := w.Unprobed[0]
	kind, name, _ := strings.Cut(w.Object, "/")
	probe := fmt.Sprintf(`{"name":%q,"readinessProbe":{"tcpSocket":{"port":%d},"periodSeconds":5}}`, p.Container, p.Number)
	if !slices.Contains([]string{"deployment", "statefulset", "daemonset"}, kind) {
		return fmt.Sprintf("add to its template, in whatever makes %s: %s", w.Object, probe)
	}
	return fmt.Sprintf(`kubectl -n %s patch %s %s -p '{"spec":{"template":{"spec":{"containers":[%s]}}}}'`, w.Namespace, kind, name, probe)
}
