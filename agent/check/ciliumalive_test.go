// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strings"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestCiliumAlive(t *testing.T) {
	aged := func(age time.Duration) func(*facts.Facts) {
		return func(f *facts.Facts) { f.Liveness.Stamp = f.Liveness.Now - age }
	}
	status := func(c facts.CiliumStatus) func(*facts.Facts) { return func(f *facts.Facts) { f.Status = c } }
	tell(t, v1alpha1.CheckCiliumAlive, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"just now":             {aged(0), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"five seconds ago":     {aged(5 * time.Second), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"longer ago":           {aged(5*time.Second + 1), v1alpha1.VerdictFail, v1alpha1.CiliumStopped},
		"never":                {func(f *facts.Facts) { f.Liveness.Stamp = 0 }, v1alpha1.VerdictFail, v1alpha1.CiliumStopped},
		"never on this boot":   {func(f *facts.Facts) { f.Liveness = facts.Liveness{Look: facts.Look{Sight: facts.Absent}} }, v1alpha1.VerdictFail, v1alpha1.CiliumStopped},
		"in the future":        {aged(-time.Second), v1alpha1.VerdictUnknown, v1alpha1.CiliumLivenessUnreadable},
		"not readable":         {func(f *facts.Facts) { f.Liveness.Look = broken }, v1alpha1.VerdictUnknown, v1alpha1.CiliumLivenessUnreadable},
		"of an unknown layout": {func(f *facts.Facts) { f.Liveness.Look.Sight = facts.Alien }, v1alpha1.VerdictUnknown, v1alpha1.CiliumLivenessUnreadable},

		"it fails, as it says": {status(facts.CiliumStatus{Look: seen, State: "Failure", Message: "Kubernetes service is not ready"}), v1alpha1.VerdictFail, v1alpha1.CiliumUnwell},
		"it warns":             {status(facts.CiliumStatus{Look: seen, State: "Warning", Message: "Stale status data"}), v1alpha1.VerdictWarn, v1alpha1.CiliumUnwell},
		"it is disabled":       {status(facts.CiliumStatus{Look: seen, State: "Disabled"}), v1alpha1.VerdictWarn, v1alpha1.CiliumUnwell},
		"a state of no Cilium": {status(facts.CiliumStatus{Look: seen}), v1alpha1.VerdictWarn, v1alpha1.CiliumUnwell},
		"its socket refuses":   {status(facts.CiliumStatus{Look: broken}), v1alpha1.VerdictUnknown, v1alpha1.CiliumSilent},
		"somebody else's socket": {
			status(facts.CiliumStatus{Look: facts.Look{Sight: facts.Alien, Detail: "no JSON"}}), v1alpha1.VerdictUnknown, v1alpha1.CiliumSilent,
		},
		"stopped, and what the socket said before does not count": {aged(time.Hour), v1alpha1.VerdictFail, v1alpha1.CiliumStopped},

		"no peer in the tunnel": {func(f *facts.Facts) { f.Health.EndpointsReached = 0 }, v1alpha1.VerdictWarn, v1alpha1.CiliumProbesFail},
		"no peer in the tunnel, and it fails": {all(func(f *facts.Facts) { f.Health.EndpointsReached = 0 }, status(facts.CiliumStatus{Look: seen, State: "Failure"})),
			v1alpha1.VerdictFail, v1alpha1.CiliumUnwell},
		"one peer in the tunnel":          {func(f *facts.Facts) { f.Health.EndpointsReached = 1 }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"no peer at all":                  {func(f *facts.Facts) { f.Health.HostsReached, f.Health.EndpointsReached = 0, 0 }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"peers without a health endpoint": {func(f *facts.Facts) { f.Health.Endpoints, f.Health.EndpointsReached = 0, 0 }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"no peer in the tunnel, long ago": {func(f *facts.Facts) {
			f.Health.EndpointsReached, f.Health.At = 0, now.Add(-3*time.Minute-1)
		}, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"no peer in the tunnel, a round of a large cluster ago": {func(f *facts.Facts) {
			f.Health.EndpointsReached, f.Health.At, f.Health.Interval = 0, now.Add(-20*time.Minute), 8*time.Minute
		}, v1alpha1.VerdictWarn, v1alpha1.CiliumProbesFail},
		"no round of probes yet": {func(f *facts.Facts) { f.Health.EndpointsReached, f.Health.At = 0, time.Time{} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"nobody asked":           {func(f *facts.Facts) { f.Health.Look = facts.Look{} }, v1alpha1.VerdictPass, v1alpha1.AsWanted},
	})
}

// TestAnAgentThatWasNotAskedIsNotSaidToAnswer: without its socket the stamp is all there is, and no finding hides that.
func TestAnAgentThatWasNotAskedIsNotSaidToAnswer(t *testing.T) {
	for name, c := range map[string]facts.CiliumStatus{
		"no mount":    {Look: facts.Look{Detail: "its runtime directory is not mounted here"}},
		"no socket":   {Look: facts.Look{Sight: facts.Absent, Detail: "no such file or directory"}},
		"not allowed": {Look: facts.Look{Sight: facts.Failed, Detail: "permission denied"}, NotAllowed: true},
		"no look":     {},
	} {
		f := overlayNode()
		f.Status = c
		x := find(t, Judge(f, v1alpha1.RoleOverlay, nil), v1alpha1.CheckCiliumAlive)
		if x.Verdict != v1alpha1.VerdictPass || !strings.Contains(x.Message, "rests on the stamp alone") || !strings.Contains(x.Message, c.Detail) {
			t.Errorf("%s: %s: %s", name, x.Verdict, x.Message)
		}
	}
}
