// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// smallest is the least that a person has to write.
const smallest = `
apiVersion: cni-cutover.dev/v1alpha1
kind: Cutover
metadata: {name: cluster}
spec: {overlay: {podCIDRs: [10.244.0.0/16]}}
`

func TestDefaultsAreWhatTheDocumentationPromises(t *testing.T) {
	var got v1alpha1.Cutover
	o := created(t, object(t, smallest))
	if err := cluster.Get(t.Context(), client.ObjectKeyFromObject(o), &got); err != nil {
		t.Fatal(err)
	}
	one, yes := int32(1), true
	want := v1alpha1.CutoverSpec{
		Overlay: v1alpha1.Overlay{PodCIDRs: []string{"10.244.0.0/16"}, NodeMaskSize: 24, Tunnel: v1alpha1.Tunnel{Protocol: "VXLAN", Port: 8472}},
		Legacy:  v1alpha1.Legacy{DaemonSet: v1alpha1.ObjectRef{Namespace: "kube-system", Name: "aws-node"}, FenceLabel: v1alpha1.FenceLabel},
		Cilium:  v1alpha1.Cilium{Install: v1alpha1.InstallSecondary, DaemonSet: v1alpha1.ObjectRef{Namespace: "kube-system", Name: "cilium"}},
		Rollout: v1alpha1.Rollout{
			MaxConcurrent: 1, MaxUnavailable: 1, Canary: &one, Soak: minutes(5), FailureBudget: 1, Order: v1alpha1.OrderName,
			Drain: v1alpha1.Drain{DeregistrationDelay: metav1.Duration{Duration: 310 * time.Second}, Timeout: minutes(30), DeleteEmptyDirData: &yes},
		},
		Replacement: v1alpha1.Replacement{Type: v1alpha1.ReplacementExternal, Timeout: minutes(30), JoinTimeout: minutes(20)},
		State:       v1alpha1.StateRunning,
	}
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Error(diff)
	}
}

func TestACutoverThatCannotWorkIsRefusedWithASentence(t *testing.T) {
	for name, c := range map[string]struct{ patch, want string }{
		"another name": {"metadata: {name: another}", "a Cutover is a singleton: its name must be cluster"},
		"no spec":      {"spec: null", "spec: Required value"},

		"no overlay":            {"spec: {overlay: null}", "spec.overlay: Required value"},
		"no pod CIDR":           {"spec: {overlay: {podCIDRs: []}}", "should have at least 1 items"},
		"not a CIDR":            {"spec: {overlay: {podCIDRs: [10.244.0.0]}}", "must be IPv4 networks in CIDR form without host bits"},
		"words for a CIDR":      {"spec: {overlay: {podCIDRs: [overlay]}}", "must be IPv4 networks in CIDR form without host bits"},
		"host bits":             {"spec: {overlay: {podCIDRs: [10.244.0.1/16]}}", "must be IPv4 networks in CIDR form without host bits"},
		"IPv6":                  {"spec: {overlay: {podCIDRs: ['fd00::/104']}}", "must be IPv4 networks in CIDR form without host bits"},
		"IPv4 in IPv6":          {"spec: {overlay: {podCIDRs: ['::ffff:10.244.0.0/112']}}", "must be IPv4 networks in CIDR form without host bits"},
		"the same CIDR twice":   {"spec: {overlay: {podCIDRs: [10.244.0.0/16, 10.244.0.0/16]}}", "must not overlap"},
		"one CIDR in another":   {"spec: {overlay: {podCIDRs: [10.244.128.0/17, 10.244.0.0/16]}}", "must not overlap"},
		"mask shorter":          {"spec: {overlay: {nodeMaskSize: 15}}", "overlay.nodeMaskSize must not be shorter than the prefix of any pod CIDR"},
		"mask shorter than 2nd": {"spec: {overlay: {podCIDRs: [10.244.0.0/16, 10.245.0.0/25]}}", "overlay.nodeMaskSize must not be shorter than the prefix of any pod CIDR"},
		"mask too long":         {"spec: {overlay: {nodeMaskSize: 31}}", "should be less than or equal to 30"},
		"another tunnel":        {"spec: {overlay: {tunnel: {protocol: Geneve}}}", `supported values: "VXLAN"`},
		"no port":               {"spec: {overlay: {tunnel: {port: 0}}}", "should be greater than or equal to 1"},

		"Done is approved":           {"spec: {approvedPhases: [Done]}", "Done is reached, not approved"},
		"a phase nobody knows":       {"spec: {approvedPhases: [Everything]}", `supported values: "DecoupleIngress", "InstallCilium"`},
		"a phase twice":              {"spec: {approvedPhases: [RollNodes, RollNodes]}", "Duplicate value"},
		"another state":              {"spec: {state: Stopped}", `supported values: "Running", "Paused", "Aborted"`},
		"another install mode":       {"spec: {cilium: {install: Chained}}", `supported values: "Secondary", "Shared"`},
		"another replacement":        {"spec: {replacement: {type: Karpenter}}", `supported values: "External"`},
		"an order nobody knows":      {"spec: {rollout: {order: Random}}", `supported values: "Name", "Zone"`},
		"half a DaemonSet":           {"spec: {legacy: {daemonSet: {namespace: null, name: aws-node}}}", "spec.legacy.daemonSet.namespace: Required value"},
		"a selector without a sense": {"spec: {nodes: {selector: {matchExpressions: [{key: a}]}}}", "operator: Required value"},

		"nobody may be unavailable": {"spec: {rollout: {maxUnavailable: 0}}", "rollout.maxUnavailable must be at least 1, or no node can ever be granted a slot"},
		"no slot at all":            {"spec: {rollout: {maxConcurrent: 0}}", "should be greater than or equal to 1"},
		"more slots than a ledger":  {"spec: {rollout: {maxConcurrent: 65}}", "should be less than or equal to 64"},
		"more in a zone than ever":  {"spec: {rollout: {maxConcurrent: 2, maxConcurrentPerZone: 3}}", "rollout.maxConcurrentPerZone must not exceed rollout.maxConcurrent"},
		"no failure budget":         {"spec: {rollout: {failureBudget: 0}}", "should be greater than or equal to 1"},
		"fewer canaries than none":  {"spec: {rollout: {canary: -1}}", "should be greater than or equal to 0"},
		"a soak of days":            {"spec: {rollout: {soak: 25h}}", "rollout.soak must be between 0s and 24h"},
		"a soak before its time":    {"spec: {rollout: {soak: -1s}}", "rollout.soak must be between 0s and 24h"},
		"a soak in words":           {"spec: {rollout: {soak: five minutes}}", "rollout.soak must be between 0s and 24h"},
		"a long deregistration":     {"spec: {rollout: {drain: {deregistrationDelay: 3h}}}", "rollout.drain.deregistrationDelay must be between 0s and 2h"},
		"no time to drain":          {"spec: {rollout: {drain: {timeout: 0s}}}", "rollout.drain.timeout must be between 1s and 24h"},
		"no time to replace":        {"spec: {replacement: {timeout: 1s}}", "replacement.timeout must be between 10s and 24h"},
		"no time to join":           {"spec: {replacement: {joinTimeout: 1s}}", "replacement.joinTimeout must be between 10s and 24h"},

		"a window at 24:00":        {"spec: {rollout: {windows: [{start: '24:00', duration: 1h}]}}", "a window's start must be HH:MM in 24 hours"},
		"a window at 2:30":         {"spec: {rollout: {windows: [{start: '2:30', duration: 1h}]}}", "a window's start must be HH:MM in 24 hours"},
		"a window at half past":    {"spec: {rollout: {windows: [{start: half past, duration: 1h}]}}", "a window's start must be HH:MM in 24 hours"},
		"a window without start":   {"spec: {rollout: {windows: [{duration: 1h}]}}", "start: Required value"},
		"a window without end":     {"spec: {rollout: {windows: [{start: '02:30'}]}}", "duration: Required value"},
		"a window of seconds":      {"spec: {rollout: {windows: [{start: '02:30', duration: 59s}]}}", "a window's duration must be between 1m and 24h"},
		"a window of days":         {"spec: {rollout: {windows: [{start: '02:30', duration: 25h}]}}", "a window's duration must be between 1m and 24h"},
		"a window on a free day":   {"spec: {rollout: {windows: [{start: '02:30', duration: 1h, days: [Holiday]}]}}", `supported values: "Monday"`},
		"a window twice on Monday": {"spec: {rollout: {windows: [{start: '02:30', duration: 1h, days: [Monday, Monday]}]}}", "Duplicate value"},
		"a window in no zone":      {"spec: {rollout: {windows: [{start: '02:30', duration: 1h, timeZone: ''}]}}", "should be at least 1 chars long"},

		"a waiver without a reason": {"spec: {waivers: [{check: MTU, until: '2030-01-01T00:00:00Z'}]}", "reason: Required value"},
		"a waiver with a shrug":     {"spec: {waivers: [{check: MTU, reason: because, until: '2030-01-01T00:00:00Z'}]}", "should be at least 10 chars long"},
		"a waiver for ever":         {"spec: {waivers: [{check: MTU, reason: the path was measured by hand}]}", "until: Required value"},
		"a waiver until later":      {"spec: {waivers: [{check: MTU, reason: the path was measured by hand, until: later}]}", "must be of type date-time"},
		"two waivers of one check": {"spec: {waivers: [{check: MTU, reason: the path was measured by hand, until: '2030-01-01T00:00:00Z'}, {check: MTU, reason: the path was measured twice, until: '2031-01-01T00:00:00Z'}]}",
			"Duplicate value"},
	} {
		t.Run(name, func(t *testing.T) {
			o := object(t, smallest)
			o.Object = merged(o.Object, object(t, c.patch).Object)
			refused(t, cluster.Create(t.Context(), o, client.DryRunAll), c.want)
		})
	}
}

func TestWhatPeopleMayWishIsAccepted(t *testing.T) {
	for name, patch := range map[string]string{
		"two pools":               "spec: {overlay: {podCIDRs: [10.244.0.0/16, 10.245.0.0/16], nodeMaskSize: 25}}",
		"one node for a pool":     "spec: {overlay: {podCIDRs: [10.244.0.0/24]}}",
		"every phase":             "spec: {approvedPhases: [DecoupleIngress, InstallCilium, FenceLegacy, RollNodes, RemoveLegacy, FullEBPF]}",
		"no canary, no soak":      "spec: {rollout: {canary: 0, soak: 0s, drain: {deregistrationDelay: 0s}}}",
		"as many zones as slots":  "spec: {rollout: {maxConcurrent: 3, maxConcurrentPerZone: 3}}",
		"a limit for zones alone": "spec: {rollout: {maxConcurrentPerZone: 1}}",
		"two nights a week":       "spec: {rollout: {windows: [{days: [Tuesday, Thursday], start: '22:00', duration: 7h30m, timeZone: Europe/Berlin}]}}",
		"all day":                 "spec: {rollout: {windows: [{start: '00:00', duration: 24h}]}}",
		"a waiver":                "spec: {waivers: [{check: MTU, reason: the path was measured by hand, until: '2030-01-01T00:00:00Z'}]}",
		"some nodes":              "spec: {nodes: {selector: {matchExpressions: [{key: team, operator: In, values: [a, b]}]}}}",
	} {
		t.Run(name, func(t *testing.T) {
			o := object(t, smallest)
			o.Object = merged(o.Object, object(t, patch).Object)
			if err := cluster.Create(t.Context(), o, client.DryRunAll); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatNodesLiveByNeverChanges(t *testing.T) {
	o := object(t, smallest)
	o.Object = merged(o.Object, object(t, "spec: {overlay: {podCIDRs: [10.244.0.0/16, 10.245.0.0/16]}}").Object)
	created(t, o)
	const appendOnly = "overlay.podCIDRs is append-only: nodes and pods live in the CIDRs that are there"
	for name, c := range map[string]struct{ patch, want string }{
		"another DaemonSet":       {"spec: {legacy: {daemonSet: {name: other}}}", "spec.legacy is immutable: nodes are fenced by it already"},
		"another fence label":     {"spec: {legacy: {fenceLabel: example.com/fence}}", "spec.legacy is immutable: nodes are fenced by it already"},
		"the other install mode":  {"spec: {cilium: {install: Shared}}", "spec.cilium is immutable: nodes that have moved were judged by it"},
		"another Cilium":          {"spec: {cilium: {daemonSet: {name: other}}}", "spec.cilium is immutable: nodes that have moved were judged by it"},
		"another mask":            {"spec: {overlay: {nodeMaskSize: 25}}", "overlay.nodeMaskSize is immutable: Cilium cannot change the mask of a pool in use"},
		"another port":            {"spec: {overlay: {tunnel: {port: 4789}}}", "overlay.tunnel is immutable: nodes on different ports cannot reach each other"},
		"a CIDR changed":          {"spec: {overlay: {podCIDRs: [10.244.0.0/16, 10.246.0.0/16]}}", appendOnly},
		"a CIDR removed":          {"spec: {overlay: {podCIDRs: [10.244.0.0/16]}}", appendOnly},
		"the first CIDR removed":  {"spec: {overlay: {podCIDRs: [10.245.0.0/16]}}", appendOnly},
		"the CIDRs reordered":     {"spec: {overlay: {podCIDRs: [10.245.0.0/16, 10.244.0.0/16]}}", appendOnly},
		"a CIDR put before":       {"spec: {overlay: {podCIDRs: [10.243.0.0/16, 10.244.0.0/16, 10.245.0.0/16]}}", appendOnly},
		"a CIDR put between":      {"spec: {overlay: {podCIDRs: [10.244.0.0/16, 10.246.0.0/16, 10.245.0.0/16]}}", appendOnly},
		"a CIDR widened":          {"spec: {overlay: {podCIDRs: [10.244.0.0/15, 10.245.0.0/16]}}", appendOnly},
		"an appended CIDR within": {"spec: {overlay: {podCIDRs: [10.244.0.0/16, 10.245.0.0/16, 10.245.1.0/24]}}", "must not overlap"},
	} {
		t.Run(name, func(t *testing.T) { refused(t, tryPatch(t, o, c.patch), c.want) })
	}
	for name, patch := range map[string]string{
		"a CIDR appended":    "spec: {overlay: {podCIDRs: [10.244.0.0/16, 10.245.0.0/16, 10.246.0.0/16]}}",
		"a pause":            "spec: {state: Paused}",
		"an abort":           "spec: {state: Aborted}",
		"an approval":        "spec: {approvedPhases: [DecoupleIngress]}",
		"another pace":       "spec: {rollout: {maxConcurrent: 4, maxUnavailable: 8, surge: true}}",
		"other nodes":        "spec: {nodes: {selector: {matchLabels: {team: a}}}}",
		"defaults left away": "spec: {legacy: null, cilium: null, rollout: null}",
	} {
		t.Run(name, func(t *testing.T) {
			if err := tryPatch(t, o, patch); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnApprovalSurvivesTheSpecThatIsKeptInGit(t *testing.T) {
	apply := func(owner, text string) {
		t.Helper()
		//nolint:staticcheck // SA1019: typed apply configurations are not generated for this API
		if err := cluster.Patch(t.Context(), object(t, text), client.Apply, client.FieldOwner(owner)); err != nil {
			t.Fatal(err)
		}
	}
	apply("gitops", smallest)
	t.Cleanup(func() { _ = cluster.Delete(context.Background(), object(t, smallest)) })
	approve := func(phases string) string {
		return strings.Replace(smallest, "spec: {overlay: {podCIDRs: [10.244.0.0/16]}}", "spec: {overlay: {podCIDRs: [10.244.0.0/16]}, approvedPhases: "+phases+"}", 1)
	}
	apply("person", approve("[DecoupleIngress]"))
	apply("gitops", smallest)
	var got v1alpha1.Cutover
	if err := cluster.Get(t.Context(), client.ObjectKey{Name: v1alpha1.CutoverName}, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]v1alpha1.Phase{v1alpha1.PhaseDecoupleIngress}, got.Spec.ApprovedPhases); diff != "" {
		t.Error(diff)
	}
}

// TestTheExampleIsACutover follows the way of the README: apply the example, then approve a phase.
func TestTheExampleIsACutover(t *testing.T) {
	text, err := os.ReadFile("../../docs/examples/cutover.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o := created(t, object(t, string(text)))
	const approve = `[{"op":"add","path":"/spec/approvedPhases/-","value":"DecoupleIngress"}]`
	if err := cluster.Patch(t.Context(), o, client.RawPatch(types.JSONPatchType, []byte(approve))); err != nil {
		t.Error(err)
	}
}
