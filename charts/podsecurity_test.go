// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package charts

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// deviations are the ways in which our pods are not what the Pod Security Standard "restricted" allows, in the words of its
// evaluator, and why each is needed. Whatever is not in this list is a privilege too many.
var deviations = map[string]map[string]string{
	"cutover-coordinator": {
		"host namespaces": "the host's network: it must outlive the change of the pod network that it makes",
		"hostPort":        "ports on that network; they also keep two coordinators off one node",
	},
	"cutover-agent": {
		"host namespaces":         "the host's network is what it looks at, and a node without a CNI must be able to say so",
		"hostPort":                "its metrics and probes, on that network",
		"restricted volume types": "net.d, the boot id, Cilium's pins and its sockets are files of the host; each is mounted read-only (TestTheAgentHasNoPrivileges)",
		"runAsNonRoot != true":    "Cilium's pins are root's, of mode 0600; the alternative is a capability, CAP_DAC_OVERRIDE",
		"runAsUser=0":             "the same; it keeps no capability but those of the tunnel meter, and what asking for the maps of programs takes",
	},
}

// profiles are the ways in which people install the chart.
func profiles() map[string][]string {
	return map[string][]string{
		"defaults":                    nil,
		"everything":                  {"--values", everything},
		"the host's root":             {"--set", "agent.hostDir=/"},
		"net.d elsewhere":             {"--set", "agent.hostDir=/var/lib,agent.cniConfDir=/var/lib/cni/net.d"},
		"a bpffs elsewhere":           {"--set", "agent.bpffs=/run/cilium/bpffs"},
		"no sockets of Cilium":        {"--set", "agent.ciliumRun="},
		"a dry run":                   {"--set", "coordinator.dryRun=true"},
		"one coordinator":             {"--set", "coordinator.replicas=1"},
		"no tunnel meter":             {"--set", "agent.tunnelMeter.attached=Never,agent.tunnelMeter.perfmon=true"},
		"maps asked, and no meter":    {"--set", "agent.tunnelMeter.attached=Never,agent.mapUses=true"},
		"no questions between agents": {"--set", "agent.pathProbes.enabled=false"},
		"every check off":             {"--set", "agent.mapUses=true,agent.disableChecks={Conflist,TunnelDevice,Programs,OverlayMaps,Services,CiliumAlive,OverlayRoutes,MTU,TunnelMeter,PodAddresses,LegacyResidue,Drops,Kernel}"},
		"an API server by its name":   {"--set", "kubernetes.serviceHost=api.example.org"},
		"other ports":                 {"--set", "ports.agent=19791,ports.coordinatorMetrics=19792,ports.coordinatorHealth=19793"},
		"no limits that matter much":  {"--set", "agent.resources.limits.memory=1Gi,coordinator.resources.limits.memory=4Gi"},
	}
}

// TestPodSecurityIsWhatIsNeeded lets the evaluator that clusters enforce pod security with judge what helm renders.
// That the programs work with no more than that is shown by every test of lab/e2e: their pods are these.
func TestPodSecurityIsWhatIsNeeded(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for name, args := range profiles() {
		t.Run(name, func(t *testing.T) {
			for pod, template := range podsOf(t, mustRender(t, args...)) {
				found := map[string]bool{}
				for _, r := range evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec) {
					if !r.Allowed {
						found[r.ForbiddenReason] = true
						t.Logf("%s: %s (%s)", pod, r.ForbiddenReason, r.ForbiddenDetail)
					}
				}
				want := maps.Clone(deviations[pod])
				if pod == "cutover-agent" && agentCapabilities(name) == nil {
					want["seccompProfile"] = "RuntimeDefault lets bpf(2) through only with CAP_BPF or CAP_SYS_ADMIN, whose absence is worth more"
				}
				if pod == "cutover-agent" && agentCapabilities(name) != nil {
					want["unrestricted capabilities"] = "CAP_BPF, CAP_NET_ADMIN and, if asked for, CAP_PERFMON: the tunnel meter; CAP_SYS_ADMIN, if asked for: which maps programs use"
				}
				if diff := cmp.Diff(sorted(want), sorted(found)); diff != "" {
					t.Errorf("%s deviates from restricted (-with a reason +as rendered):\n%s", pod, diff)
				}
			}
		})
	}
}

// TestAnAPIServerTakesEveryProfile has a real one validate the workloads, which knows combinations of privileges that it refuses.
func TestAnAPIServerTakesEveryProfile(t *testing.T) {
	k := start(t)
	k.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: release}})
	for name, args := range profiles() {
		for _, o := range decoded(t, mustRender(t, args...)) {
			if kind := o.GetKind(); kind != "DaemonSet" && kind != "Deployment" {
				continue
			}
			if err := k.Create(t.Context(), o, client.DryRunAll); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// podsOf returns the pods of every workload by its name.
func podsOf(t *testing.T, manifests string) map[string]corev1.PodTemplateSpec {
	t.Helper()
	all, _ := objects(t, manifests)
	templates := map[string]corev1.PodTemplateSpec{}
	for _, o := range all {
		switch o := o.(type) {
		case *appsv1.DaemonSet:
			templates[o.Name] = o.Spec.Template
		case *appsv1.Deployment:
			templates[o.Name] = o.Spec.Template
		default:
			if kind := o.GetObjectKind().GroupVersionKind(); kind.Group == "apps" || kind.Group == "batch" || kind.Kind == "Pod" {
				t.Fatalf("a %s: its pods are judged nowhere", kind.Kind)
			}
		}
	}
	if len(templates) != len(deviations) {
		t.Fatalf("%d workloads, want %d", len(templates), len(deviations))
	}
	return templates
}
