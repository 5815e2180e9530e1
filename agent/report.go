// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Report judges facts and puts a status together. Judged is the role to judge by; empty, the one that the host shows.
func Report(f *facts.Facts, judged v1alpha1.Role, version string, off map[v1alpha1.CheckName]bool) v1alpha1.NodeCutoverStatus {
	shown, _ := check.Role(f)
	if judged == "" {
		judged = shown
	}
	findings := check.Judge(f, judged, off)
	return v1alpha1.NodeCutoverStatus{
		NodeUID:      f.Node.UID,
		BootID:       f.Boot.ID,
		Role:         shown,
		JudgedRole:   judged,
		AgentVersion: version,
		ObservedAt:   metav1.NewMicroTime(f.At),
		Verdict:      check.Worst(findings),
		Findings:     findings,
	}
}

// meaning is what a change of makes a report worth writing again: whose it is and what it says, without the sentences and numbers
// that change from look to look.
func meaning(s v1alpha1.NodeCutoverStatus) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.NodeUID, s.BootID, s.Role, s.JudgedRole, s.AgentVersion)
	for _, f := range s.Findings {
		// Counters rest most of the time and begin anew with every agent: only a rise is news. That the first packet of a peer
		// has come is none: no drain waits for that check, and MTU says what was measured.
		if f.Check == v1alpha1.CheckDrops && f.Verdict != v1alpha1.VerdictWarn || f.Check == v1alpha1.CheckTunnelMeter {
			continue
		}
		fmt.Fprintln(&b, f.Check, f.Verdict, f.Reason)
	}
	return b.String()
}
