// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"testing"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestWorkloadsWithoutReadinessProbesAreNamed(t *testing.T) {
	behind := func(workloads ...Workload) func(*Snapshot) {
		return func(s *Snapshot) { s.Traffic.Workloads = append(s.Traffic.Workloads, workloads...) }
	}
	web := Workload{Namespace: "shop", Object: "deployment/web", Services: []string{"web", "web-canary"}, Unprobed: []Port{{"app", 8080}}}
	api, db := web, web
	api.Object, db.Namespace, db.Object = "rollout/api", "data", "statefulset/db"
	const check = "Readiness"
	for name, e := range map[string]expectation{
		"a Deployment": {check, behind(web), v1alpha1.VerdictWarn, []string{"1 workloads", "namespace shop", "shop/deployment/web", "deployment/web: container app, port 8080, behind Service web, web-canary"},
			[]string{`kubectl -n shop patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"app","readinessProbe":{"tcpSocket":{"port":8080},"periodSeconds":5}}]}}}}'`}},
		"what kubectl cannot patch":    {check, behind(api), v1alpha1.VerdictWarn, []string{"rollout/api"}, []string{"in whatever makes rollout/api"}},
		"each namespace has a finding": {check, behind(web, db, api), v1alpha1.VerdictWarn, []string{"2 workloads", "namespace shop", "rollout/api"}, []string{"so each of them"}},
		"and the other one, too":       {check, behind(web, db, api), v1alpha1.VerdictWarn, []string{"1 workloads", "namespace data"}, []string{"patch statefulset db"}},
		"with probes":                  {check, behind(Workload{Namespace: "shop", Object: "deployment/web", Services: []string{"web"}}), v1alpha1.VerdictPass, []string{"the 2 workloads"}, nil},
		"pods were not seen":           {check, unseen("pods"), v1alpha1.VerdictUnknown, nil, nil},
		"Services were not seen":       {check, unseen("services"), v1alpha1.VerdictUnknown, nil, nil},
	} {
		t.Run(name, e.hold)
	}
}
