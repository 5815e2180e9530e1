// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// Reasons of Cilium's (pkg/monitor/api/drop.go).
const (
	forwarded      = 0
	dropPolicy     = 133
	dropUnroutable = 151
	dropNoTunnel   = 160
	dropNoProgram  = 203
)

// counts takes reasons and packets in turn; direction egress.
func counts(pairs ...uint64) map[ciliummap.Counter]ciliummap.Count {
	out := map[ciliummap.Counter]ciliummap.Count{}
	for i := 0; i < len(pairs); i += 2 {
		out[ciliummap.Counter{Reason: uint8(pairs[i]), Direction: 2}] = ciliummap.Count{Packets: pairs[i+1], Bytes: 100 * pairs[i+1]}
	}
	return out
}

func TestDrops(t *testing.T) {
	now := func(pairs ...uint64) func(*facts.Facts) {
		return func(f *facts.Facts) { f.Counters.By = counts(pairs...) }
	}
	tell(t, v1alpha1.CheckDrops, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"old drops and no new ones":            {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a few new ones":                       {now(forwarded, 5000, dropNoTunnel, 49), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"ten new ones":                         {now(forwarded, 5000, dropNoTunnel, 50), v1alpha1.VerdictWarn, v1alpha1.ForwardingDrops},
		"ten of two reasons":                   {now(dropNoTunnel, 45, dropNoProgram, 5, forwarded, 4000), v1alpha1.VerdictWarn, v1alpha1.ForwardingDrops},
		"policies refuse":                      {now(dropNoTunnel, 40, dropPolicy, 900, forwarded, 4000), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"packets for pods that are gone":       {now(dropNoTunnel, 40, dropUnroutable, 900, forwarded, 4000), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"the first look":                       {func(f *facts.Facts) { f.Earlier = facts.Counters{} }, v1alpha1.VerdictUnknown, v1alpha1.DropsUnmeasured},
		"counters begin anew":                  {now(forwarded, 7), v1alpha1.VerdictUnknown, v1alpha1.DropsUnmeasured},
		"no time between":                      {func(f *facts.Facts) { f.Earlier.At = f.Counters.At }, v1alpha1.VerdictUnknown, v1alpha1.DropsUnmeasured},
		"of a layout that nobody knows":        {func(f *facts.Facts) { f.Counters = facts.Counters{Look: facts.Look{Sight: facts.Alien}} }, v1alpha1.VerdictUnknown, v1alpha1.DropsUnknown},
		"a reason of a release yet to be made": {now(dropNoTunnel, 40, 250, 900, forwarded, 4000), v1alpha1.VerdictPass, v1alpha1.AsWanted},
	})
}

func TestDropsAreNamedAndNeverDoubtTheNode(t *testing.T) {
	f := overlayNode()
	f.Counters.By = counts(dropNoTunnel, 52, dropNoProgram, 5, forwarded, 4000)
	x := find(t, Judge(f, v1alpha1.RoleOverlay, nil), v1alpha1.CheckDrops)
	for _, want := range []string{"30s", "17 packets", "no tunnel endpoint (12)", "program of endpoint not ready (5)"} {
		if !strings.Contains(x.Message, want) {
			t.Errorf("%q is not in: %s", want, x.Message)
		}
	}
	f.Earlier = facts.Counters{}
	if w := Worst(Judge(f, v1alpha1.RoleOverlay, nil)); w != v1alpha1.VerdictPass {
		t.Errorf("with the first look a good node is %s", w)
	}
}
