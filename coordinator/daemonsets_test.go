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
)

func TestToLegacy(t *testing.T) {
	env := func(pairs ...string) []corev1.Container {
		c := corev1.Container{Name: "aws-node"}
		for i := 0; i < len(pairs); i += 2 {
			c.Env = append(c.Env, corev1.EnvVar{Name: pairs[i], Value: pairs[i+1]})
		}
		return []corev1.Container{{Name: "aws-eks-nodeagent"}, c}
	}
	overlay, other := netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("192.168.0.0/16")
	tests := map[string]struct {
		pod  corev1.PodSpec
		want plan.Legacy
	}{
		"nothing set": {corev1.PodSpec{Containers: env()}, plan.Legacy{}},
		"both lists, with blanks and junk": {
			corev1.PodSpec{Containers: env(envExternalServiceCIDRs, "192.168.0.0/16, 10.244.0.0/16", envExcludeSNATCIDRs, "junk,10.244.0.0/16,")},
			plan.Legacy{ExternalServiceCIDRs: []netip.Prefix{other, overlay}, ExcludeSNATCIDRs: []netip.Prefix{overlay}},
		},
		"external SNAT": {corev1.PodSpec{Containers: env(envExternalSNAT, "true")}, plan.Legacy{ExternalSNAT: true}},
		"the fence":     {corev1.PodSpec{Containers: env(), NodeSelector: map[string]string{v1alpha1.FenceLabel: "true"}}, plan.Legacy{Fenced: true}},
		"another container's settings do not count": {
			corev1.PodSpec{Containers: []corev1.Container{{Name: "other", Env: env(envExternalSNAT, "true")[1].Env}}}, plan.Legacy{},
		},
		"a setting from elsewhere counts as not set": {
			corev1.PodSpec{Containers: []corev1.Container{{Name: "aws-node", Env: []corev1.EnvVar{{Name: envExternalServiceCIDRs, ValueFrom: &corev1.EnvVarSource{}}}}}}, plan.Legacy{},
		},
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
