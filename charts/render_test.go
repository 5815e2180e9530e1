// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package charts

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// one returns the only object of a type.
func one[T runtime.Object](t *testing.T, manifests string) T {
	t.Helper()
	all, _ := objects(t, manifests)
	found := find[T](all)
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T, want one", len(found), *new(T))
	}
	return found[0]
}

func to[T any](v T) *T { return &v }

// TestTheAgentHasNoPrivileges but the capabilities of the tunnel meter, where there is one, and of what somebody switched on.
func TestTheAgentHasNoPrivileges(t *testing.T) {
	for name, args := range profiles() {
		t.Run(name, func(t *testing.T) {
			pod := one[*appsv1.DaemonSet](t, mustRender(t, args...)).Spec.Template.Spec
			if len(pod.Containers) != 1 || len(pod.InitContainers) != 0 {
				t.Fatal("want one container: each is judged here")
			}
			want := &corev1.SecurityContext{
				RunAsUser: to[int64](0), RunAsGroup: to[int64](0),
				AllowPrivilegeEscalation: to(false),
				ReadOnlyRootFilesystem:   to(true),
				Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: agentCapabilities(name)},
				SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			}
			if want.Capabilities.Add == nil { // without CAP_BPF and CAP_SYS_ADMIN the filter would forbid to read maps
				want.SeccompProfile.Type = corev1.SeccompProfileTypeUnconfined
			}
			if diff := cmp.Diff(want, pod.Containers[0].SecurityContext); diff != "" {
				t.Errorf("security context (-want +got):\n%s", diff)
			}
			if pod.SecurityContext != nil {
				t.Error("a security context of the pod: it is judged by the container's alone")
			}
			if !pod.HostNetwork || pod.HostPID || pod.HostIPC {
				t.Errorf("hostNetwork %t, hostPID %t, hostIPC %t: want the host's network only", pod.HostNetwork, pod.HostPID, pod.HostIPC)
			}
			for _, m := range pod.Containers[0].VolumeMounts {
				if m.Name == "probe-keys" { // the kubelet's, and not the host's
					if !m.ReadOnly {
						t.Error("the keys can be written")
					}
					continue
				}
				if m.Name == "cilium-run" { // nothing is mounted below it that is of use here, so what is can be read-only too
					if !m.ReadOnly || *m.MountPropagation != corev1.MountPropagationNone || *m.RecursiveReadOnly != corev1.RecursiveReadOnlyIfPossible {
						t.Errorf("mount %s: want it read-only with all that is below it", m.Name)
					}
					continue
				}
				if !m.ReadOnly || m.MountPropagation == nil || *m.MountPropagation != corev1.MountPropagationHostToContainer {
					t.Errorf("mount %s: want it read-only, and to see what the host mounts later", m.Name)
				}
			}
			for _, v := range pod.Volumes {
				if v.Name == "probe-keys" && v.Secret != nil && *v.Secret.DefaultMode == 0o400 && *v.Secret.Optional {
					continue
				}
				if v.Name == "cilium-run" && *v.HostPath.Type == corev1.HostPathDirectoryOrCreate {
					continue // the one that is made where Cilium has not been yet, as for Cilium's own pod
				}
				there := []corev1.HostPathType{corev1.HostPathDirectory, corev1.HostPathFile}
				if v.HostPath == nil || v.HostPath.Type == nil || !slices.Contains(there, *v.HostPath.Type) {
					t.Errorf("volume %s: want what is on the host already: anything else would be made", v.Name)
				}
			}
		})
	}
}

// agentCapabilities are what the tunnel meter needs in a profile (bpf/tunnelmeter), and asking which maps programs use, and nothing else.
func agentCapabilities(profile string) []corev1.Capability {
	switch profile {
	case "no tunnel meter", "every check off":
		return nil
	case "everything":
		return []corev1.Capability{"BPF", "NET_ADMIN", "PERFMON", "SYS_ADMIN"}
	case "maps asked, and no meter":
		return []corev1.Capability{"SYS_ADMIN"}
	}
	return []corev1.Capability{"BPF", "NET_ADMIN"}
}

func TestTheAgentRunsEverywhere(t *testing.T) {
	pod := one[*appsv1.DaemonSet](t, mustRender(t)).Spec.Template.Spec
	if diff := cmp.Diff([]corev1.Toleration{{Operator: corev1.TolerationOpExists}}, pod.Tolerations); diff != "" {
		t.Errorf("tolerations (-want +got):\n%s", diff)
	}
	if pod.PriorityClassName != "system-node-critical" || pod.DNSPolicy != corev1.DNSDefault {
		t.Errorf("priority class %q, DNS policy %q", pod.PriorityClassName, pod.DNSPolicy)
	}
}

func TestTheCoordinatorTouchesNoHost(t *testing.T) {
	pod := one[*appsv1.Deployment](t, mustRender(t)).Spec.Template.Spec
	if len(pod.Containers) != 1 || len(pod.Volumes) != 0 {
		t.Fatalf("%d containers, %d volumes: want one and none", len(pod.Containers), len(pod.Volumes))
	}
	wantPod := &corev1.PodSecurityContext{
		RunAsNonRoot: to(true), RunAsUser: to[int64](65532), RunAsGroup: to[int64](65532),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	want := &corev1.SecurityContext{
		AllowPrivilegeEscalation: to(false), ReadOnlyRootFilesystem: to(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	if diff := cmp.Diff(wantPod, pod.SecurityContext) + cmp.Diff(want, pod.Containers[0].SecurityContext); diff != "" {
		t.Errorf("security contexts (-want +got):\n%s", diff)
	}
	if !pod.HostNetwork {
		t.Error("not on the host network: it would not outlive the change that it makes")
	}
	for _, toleration := range pod.Tolerations {
		if toleration.Key == "" || toleration.Key == corev1.TaintNodeUnschedulable {
			t.Errorf("toleration %v: a coordinator that comes back to a cordoned node is drained for ever", toleration)
		}
	}
}

// TestTwoCoordinatorsShareNoNode: what keeps them apart are host ports, and an update has to free one first.
func TestTwoCoordinatorsShareNoNode(t *testing.T) {
	manifests := mustRender(t)
	deployment := one[*appsv1.Deployment](t, manifests)
	for _, p := range deployment.Spec.Template.Spec.Containers[0].Ports {
		if p.HostPort != p.ContainerPort {
			t.Errorf("port %s is not a host port: the scheduler would put two coordinators on one node", p.Name)
		}
	}
	update := deployment.Spec.Strategy.RollingUpdate
	if update == nil || update.MaxSurge.IntValue() != 0 || update.MaxUnavailable.IntValue() != 1 {
		t.Errorf("rolling update %v: want one away at a time and none extra", update)
	}
	if budget := one[*policyv1.PodDisruptionBudget](t, manifests).Spec.MaxUnavailable; budget == nil || budget.IntValue() != 1 {
		t.Errorf("disruption budget %v: want maxUnavailable 1, or a drain would wait for ever or take both", budget)
	}
}

// rules returns every rule by the name of its role.
func rules(t *testing.T, manifests string) map[string][]rbacv1.PolicyRule {
	t.Helper()
	all, _ := objects(t, manifests)
	named := map[string][]rbacv1.PolicyRule{}
	for _, r := range find[*rbacv1.ClusterRole](all) {
		named["ClusterRole "+r.Name] = r.Rules
	}
	for _, r := range find[*rbacv1.Role](all) {
		named["Role "+r.Namespace+"/"+r.Name] = r.Rules
	}
	return named
}

func TestNoRoleHasAWildcard(t *testing.T) {
	for role, list := range rules(t, mustRender(t, "--values", everything)) {
		for _, rule := range list {
			for _, words := range [][]string{rule.APIGroups, rule.Resources, rule.Verbs, rule.ResourceNames, rule.NonResourceURLs} {
				if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, "*") }) {
					t.Errorf("%s: %v", role, rule)
				}
			}
			if len(rule.NonResourceURLs) > 0 {
				t.Errorf("%s: %v", role, rule.NonResourceURLs)
			}
		}
	}
}

// TestServicesAreListedOnlyForTheirCheck: the agent may list what one check needs only where it is made.
func TestServicesAreListedOnlyForTheirCheck(t *testing.T) {
	lists := func(args ...string) (out []string) {
		for _, rule := range rules(t, mustRender(t, args...))["ClusterRole cutover-agent"] {
			for _, r := range rule.Resources {
				if (r == "services" || r == "endpointslices") && slices.Contains(rule.Verbs, "list") {
					out = append(out, r)
				}
			}
		}
		return out
	}
	if got := lists("--set", "agent.disableChecks={Kernel}"); !slices.Equal(got, []string{"services", "endpointslices"}) {
		t.Errorf("with the check it may list %v", got)
	}
	if got := lists("--set", "agent.disableChecks={Services}"); len(got) > 0 {
		t.Errorf("without the check it may list %v", got)
	}
}

// TestWhoMayWriteWhat holds the line between the two programs, and between a dry run and the real thing.
func TestWhoMayWriteWhat(t *testing.T) {
	want := []string{
		"ClusterRole cutover-agent: update nodecutovers/status",
		"ClusterRole cutover-coordinator-act: create nodecutovers",
		"ClusterRole cutover-coordinator-act: create pods/eviction",
		"ClusterRole cutover-coordinator-act: patch nodecutovers",
		"ClusterRole cutover-coordinator-act: patch nodes",
		"ClusterRole cutover-coordinator-act: patch nodes/status",
		"ClusterRole cutover-coordinator-act: update cutovers/status",
		"Role cni-cutover/cutover-coordinator-lead: create events",
		"Role cni-cutover/cutover-coordinator-lead: create leases",
		"Role cni-cutover/cutover-coordinator-lead: patch events",
		"Role cni-cutover/cutover-coordinator-lead: update leases [cutover-coordinator]",
		"Role default/cutover-coordinator-tell: create events",
		"Role default/cutover-coordinator-tell: patch events",
		"Role kube-system/cutover-coordinator-act: create ciliumnodeconfigs",
		"Role kube-system/cutover-coordinator-act: delete daemonsets [aws-node]",
		"Role kube-system/cutover-coordinator-act: delete pods",
		"Role kube-system/cutover-coordinator-act: patch daemonsets [aws-node]",
		"Role kube-system/cutover-coordinator-act: update ciliumnodeconfigs [cni-cutover-overlay]",
	}
	if diff := cmp.Diff(want, writes(rules(t, mustRender(t)))); diff != "" {
		t.Errorf("rights to write (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[:1], writes(rules(t, mustRender(t, "--set", "coordinator.dryRun=true")))); diff != "" {
		t.Errorf("rights to write in a dry run (-want +got):\n%s", diff)
	}
}

func writes(named map[string][]rbacv1.PolicyRule) []string {
	var lines []string
	for role, list := range named {
		for _, rule := range list {
			for _, verb := range rule.Verbs {
				if slices.Contains([]string{"get", "list", "watch"}, verb) {
					continue
				}
				for _, resource := range rule.Resources {
					line := fmt.Sprintf("%s: %s %s", role, verb, resource)
					if len(rule.ResourceNames) > 0 {
						line += fmt.Sprint(" ", rule.ResourceNames)
					}
					lines = append(lines, line)
				}
			}
		}
	}
	slices.Sort(lines)
	return lines
}

// TestEveryRoleIsBound: a role without a binding is a right that somebody believes in.
func TestEveryRoleIsBound(t *testing.T) {
	all, _ := objects(t, mustRender(t))
	bound := map[string]int{}
	for _, b := range find[*rbacv1.ClusterRoleBinding](all) {
		bound["ClusterRole "+b.RoleRef.Name]++
	}
	for _, b := range find[*rbacv1.RoleBinding](all) {
		bound["Role "+b.Namespace+"/"+b.RoleRef.Name]++
	}
	for role := range rules(t, mustRender(t)) {
		if bound[role] != 1 {
			t.Errorf("%s is bound %d times, want once", role, bound[role])
		}
	}
}
