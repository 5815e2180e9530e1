// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// columns asks for a Table, as kubectl get does, and returns the one row by column. wide takes in what -o wide shows.
func columns(t *testing.T, resource string, wide bool) map[string]string {
	t.Helper()
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+"/apis/cni-cutover.dev/v1alpha1/"+resource, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	response, err := transport.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var table metav1.Table
	if err := json.NewDecoder(response.Body).Decode(&table); err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 1 {
		t.Fatalf("%d rows, want 1", len(table.Rows))
	}
	row := map[string]string{}
	for i, c := range table.ColumnDefinitions {
		if (c.Priority == 0 || wide) && c.Name != "Age" && c.Name != "Looked" {
			row[c.Name] = fmt.Sprint(table.Rows[0].Cells[i])
		}
	}
	return row
}

func TestKubectlGetCutoverShowsHowFarItIs(t *testing.T) {
	c := ledger(t)
	c.Status.Phase = v1alpha1.PhaseRollNodes
	c.Status.Nodes = v1alpha1.NodeCounts{Total: 5, Legacy: 3, Overlay: 2}
	c.Status.Slots = []v1alpha1.Slot{someSlot("uid-1"), someSlot("uid-2")}
	condition := func(kind string, status metav1.ConditionStatus, reason v1alpha1.Reason, message string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: string(reason), Message: message, LastTransitionTime: metav1.Now()}
	}
	c.Status.Conditions = []metav1.Condition{
		condition(v1alpha1.ConditionFenceIntact, metav1.ConditionTrue, v1alpha1.FenceComplete, ""),
		condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.Progressing, "2 of 5 nodes are on the overlay"),
	}
	if err := cluster.Status().Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Name": "cluster", "Phase": "RollNodes", "State": "Running", "Legacy": "3", "Overlay": "2",
		"Slot": "node-of-uid-1", "Step": "Cordon", "Fence": "True", "Ready": "False", "Reason": "Progressing",
	}
	if diff := cmp.Diff(want, columns(t, "cutovers", false)); diff != "" {
		t.Error(diff)
	}
	want["Message"] = "2 of 5 nodes are on the overlay"
	if diff := cmp.Diff(want, columns(t, "cutovers", true)); diff != "" {
		t.Errorf("wide:\n%s", diff)
	}
}

func TestKubectlGetNodeCutoverShowsTheAnswer(t *testing.T) {
	var n v1alpha1.NodeCutover
	if err := cluster.Get(t.Context(), client.ObjectKeyFromObject(created(t, object(t, node))), &n); err != nil {
		t.Fatal(err)
	}
	n.Spec.Challenge = &v1alpha1.Challenge{ID: "q1", NodeUID: "uid-1", Role: v1alpha1.RoleLegacy, Purpose: v1alpha1.PurposeDrain, ExpiresAt: metav1.NowMicro(), RequiredChecks: []v1alpha1.CheckName{v1alpha1.CheckMTU}}
	if err := cluster.Update(t.Context(), &n); err != nil {
		t.Fatal(err)
	}
	n.Status = v1alpha1.NodeCutoverStatus{
		Role: v1alpha1.RoleLegacy, Verdict: v1alpha1.VerdictFail, AgentVersion: "v1",
		Findings: []v1alpha1.Finding{
			{Check: v1alpha1.CheckConflist, Verdict: v1alpha1.VerdictWarn, Reason: v1alpha1.ConflistLeftovers},
			{Check: v1alpha1.CheckOverlayMaps, Verdict: v1alpha1.VerdictUnknown, Reason: v1alpha1.MapUnreadable},
			{Check: v1alpha1.CheckMTU, Verdict: v1alpha1.VerdictFail, Reason: v1alpha1.MTUNoRoom},
		},
	}
	if err := cluster.Status().Update(t.Context(), &n); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Name": "node-1", "Role": "Legacy", "Verdict": "Fail", "Asked": "Drain", "Fail": "MTUNoRoom", "Unknown": "MapUnreadable",
	}
	if diff := cmp.Diff(want, columns(t, "nodecutovers", false)); diff != "" {
		t.Error(diff)
	}
	want["Warn"], want["Agent"] = "ConflistLeftovers", "v1"
	if diff := cmp.Diff(want, columns(t, "nodecutovers", true)); diff != "" {
		t.Errorf("wide:\n%s", diff)
	}
}
