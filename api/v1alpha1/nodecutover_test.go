// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

const node = `
apiVersion: cni-cutover.dev/v1alpha1
kind: NodeCutover
metadata: {name: node-1}
spec: {nodeUID: uid-1}
`

// someFindings writes n findings of different checks.
func someFindings(n int) []v1alpha1.Finding {
	var out []v1alpha1.Finding
	for i := range n {
		out = append(out, v1alpha1.Finding{Check: v1alpha1.CheckName(fmt.Sprintf("Check%d", i)), Verdict: v1alpha1.VerdictPass, Reason: v1alpha1.AsWanted})
	}
	return out
}

func TestAReportIsBounded(t *testing.T) {
	o := created(t, object(t, node))
	evidence := func(n int) (out []v1alpha1.Evidence) {
		for i := range n {
			out = append(out, v1alpha1.Evidence{Name: fmt.Sprint("quantity ", i), Value: int64(i), Unit: "entries"})
		}
		return out
	}
	one := func(change func(*v1alpha1.Finding)) []v1alpha1.Finding {
		f := someFindings(1)
		change(&f[0])
		return f
	}
	for name, c := range map[string]struct {
		findings []v1alpha1.Finding
		want     string // empty: accepted
	}{
		"64 findings":     {someFindings(64), ""},
		"65 findings":     {someFindings(65), "must have at most 64 items"},
		"a check twice":   {append(someFindings(2), someFindings(1)...), `Duplicate value: {"check":"Check0"}`},
		"512 bytes":       {one(func(f *v1alpha1.Finding) { f.Message = strings.Repeat("x", 512) }), ""},
		"513 bytes":       {one(func(f *v1alpha1.Finding) { f.Message = strings.Repeat("x", 513) }), "may not be more than 512 bytes"},
		"512 wide bytes":  {one(func(f *v1alpha1.Finding) { f.Message = strings.Repeat("é", 256) }), ""},
		"514 wide bytes":  {one(func(f *v1alpha1.Finding) { f.Message = strings.Repeat("é", 257) }), "a finding's message must not exceed 512 bytes: cut it at a character"},
		"16 numbers":      {one(func(f *v1alpha1.Finding) { f.Evidence = evidence(16) }), ""},
		"17 numbers":      {one(func(f *v1alpha1.Finding) { f.Evidence = evidence(17) }), "must have at most 16 items"},
		"a number twice":  {one(func(f *v1alpha1.Finding) { f.Evidence = append(evidence(1), evidence(1)...) }), "Duplicate value"},
		"a long reason":   {one(func(f *v1alpha1.Finding) { f.Reason = v1alpha1.Reason(strings.Repeat("x", 64)) }), "may not be more than 63 bytes"},
		"another verdict": {one(func(f *v1alpha1.Finding) { f.Verdict = "Maybe" }), `supported values: "Pass", "Warn", "Fail", "Unknown", "NotAsked"`},
		"no check":        {one(func(f *v1alpha1.Finding) { f.Check = "" }), "should be at least 1 chars long"},
	} {
		t.Run(name, func(t *testing.T) {
			n := &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), ResourceVersion: o.GetResourceVersion()}}
			n.Status.Findings = c.findings
			err := cluster.Status().Update(t.Context(), n, client.DryRunAll)
			switch {
			case c.want != "":
				refused(t, err, c.want)
			case err != nil:
				t.Error(err)
			}
		})
	}
}

func TestAChallengeIsComplete(t *testing.T) {
	o := created(t, object(t, node))
	const whole = "{id: q1, nodeUID: uid-1, role: Legacy, purpose: Drain, expiresAt: '2030-01-01T00:00:00.000000Z', requiredChecks: [MTU]}"
	for name, c := range map[string]struct{ old, new, want string }{
		"no id":                {"id: q1, ", "", "id: Required value"},
		"an empty id":          {"id: q1", "id: ''", "should be at least 1 chars long"},
		"no node":              {"nodeUID: uid-1, ", "", "nodeUID: Required value"},
		"a role nobody has":    {"Legacy", "Former", `supported values: "Legacy", "Overlay", "Mixed", "Unknown"`},
		"another purpose":      {"Drain", "Reboot", `supported values: "Drain", "Validate"`},
		"no end":               {"expiresAt: '2030-01-01T00:00:00.000000Z', ", "", "expiresAt: Required value"},
		"no check":             {"[MTU]", "[]", "should have at least 1 items"},
		"the same check twice": {"[MTU]", "[MTU, MTU]", "Duplicate value"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, tryPatch(t, o, "spec: {challenge: "+strings.Replace(whole, c.old, c.new, 1)+"}"), c.want)
		})
	}
	if err := tryPatch(t, o, "spec: {challenge: "+whole+"}"); err != nil {
		t.Error(err)
	}
}

func TestQuestionAndAnswerHaveAWriterEach(t *testing.T) {
	asked := &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	asked.Spec.NodeUID = "uid-1"
	asked.Status.BootID = "a boot that the one who asks made up"
	created(t, asked)
	now := func() v1alpha1.NodeCutover {
		t.Helper()
		var n v1alpha1.NodeCutover
		if err := cluster.Get(t.Context(), client.ObjectKeyFromObject(asked), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if diff := cmp.Diff(v1alpha1.NodeCutoverStatus{}, now().Status); diff != "" {
		t.Errorf("a status came with the object:\n%s", diff)
	}

	answer := now()
	answer.Status.BootID, answer.Spec.NodeUID = "boot-1", "uid-2"
	answer.Annotations = map[string]string{v1alpha1.AnnotationRelease: "the agent would like to"}
	if err := cluster.Status().Update(t.Context(), &answer); err != nil {
		t.Fatal(err)
	}
	got := now()
	if got.Status.BootID != "boot-1" || got.Spec.NodeUID != "uid-1" || len(got.Annotations) != 0 {
		t.Errorf("after the agent's write: boot %q, node %q, annotations %v; want boot-1, uid-1 and none", got.Status.BootID, got.Spec.NodeUID, got.Annotations)
	}

	question := now()
	question.Status.BootID, question.Spec.NodeUID = "boot-2", "uid-3"
	if err := cluster.Update(t.Context(), &question); err != nil {
		t.Fatal(err)
	}
	got = now()
	if got.Status.BootID != "boot-1" || got.Spec.NodeUID != "uid-3" {
		t.Errorf("after the coordinator's write: boot %q, node %q; want boot-1 and uid-3", got.Status.BootID, got.Spec.NodeUID)
	}
}
