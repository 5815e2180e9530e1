// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/coordinator/plan"
	"github.com/cni-cutover/cni-cutover/vpccni"
)

func TestToLegacy(t *testing.T) {
	env := []corev1.EnvVar{{Name: vpccni.EnvExternalServiceCIDRs, Value: "10.244.0.0/16"}, {Name: vpccni.EnvExternalSNAT, Value: "true"}}
	tests := map[string]struct {
		pod  corev1.PodSpec
		want plan.Legacy
	}{
		"nothing set": {corev1.PodSpec{Containers: []corev1.Container{{Name: "aws-node"}}}, plan.Legacy{}},
		"settings": {
			corev1.PodSpec{Containers: []corev1.Container{{Name: "aws-eks-nodeagent"}, {Name: "aws-node", Env: env}}},
			plan.Legacy{Settings: vpccni.Settings{ExternalServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, ExternalSNAT: true}},
		},
		"the fence": {corev1.PodSpec{NodeSelector: map[string]string{v1alpha1.FenceLabel: "true"}}, plan.Legacy{Fenced: true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ds := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: tt.pod}}}
			tt.want.Found, tt.want.Rollout.Current = true, true
			if diff := cmp.Diff(tt.want, toLegacy(ds, v1alpha1.FenceLabel), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestRolloutOfAnUnseenGenerationIsNotDone(t *testing.T) {
	ds := &appsv1.DaemonSet{Status: appsv1.DaemonSetStatus{ObservedGeneration: 1, DesiredNumberScheduled: 4, UpdatedNumberScheduled: 4, NumberReady: 4}}
	ds.Generation = 1
	if !toRollout(ds).Done() {
		t.Error("a finished rollout is not done")
	}
	ds.Generation = 2
	if toRollout(ds).Done() {
		t.Error("a rollout that the controller has not seen yet is done")
	}
}

func TestCiliumThatStripsTheVPCCNIsRulesIsRecognised(t *testing.T) {
	hook := func(script string) corev1.Container {
		return corev1.Container{Name: "cilium-agent", Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{"bash", "-c", script}},
		}}}
	}
	for name, tt := range map[string]struct {
		container corev1.Container
		want      bool
	}{
		"no hook":      {corev1.Container{Name: "cilium-agent"}, false},
		"another hook": {hook("echo started"), false},
		"the hook":     {hook("iptables-save | grep -E -v 'AWS-SNAT-CHAIN|AWS-CONNMARK-CHAIN' | iptables-restore"), true},
	} {
		ds := &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{tt.container}}}}}
		if got := toCilium(ds).StripsRules; got != tt.want {
			t.Errorf("%s: strips rules = %t, want %t", name, got, tt.want)
		}
	}
}
