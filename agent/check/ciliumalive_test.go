// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestCiliumAlive(t *testing.T) {
	aged := func(age time.Duration) func(*facts.Facts) {
		return func(f *facts.Facts) { f.Liveness.Stamp = f.Liveness.Now - age }
	}
	tell(t, v1alpha1.CheckCiliumAlive, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"just now":             {aged(0), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"five seconds ago":     {aged(5 * time.Second), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"longer ago":           {aged(5*time.Second + 1), v1alpha1.VerdictFail, v1alpha1.CiliumStopped},
		"never":                {func(f *facts.Facts) { f.Liveness.Stamp = 0 }, v1alpha1.VerdictFail, v1alpha1.CiliumStopped},
		"never on this boot":   {func(f *facts.Facts) { f.Liveness = facts.Liveness{Look: facts.Look{Sight: facts.Absent}} }, v1alpha1.VerdictFail, v1alpha1.CiliumStopped},
		"in the future":        {aged(-time.Second), v1alpha1.VerdictUnknown, v1alpha1.CiliumLivenessUnreadable},
		"not readable":         {func(f *facts.Facts) { f.Liveness.Look = broken }, v1alpha1.VerdictUnknown, v1alpha1.CiliumLivenessUnreadable},
		"of an unknown layout": {func(f *facts.Facts) { f.Liveness.Look.Sight = facts.Alien }, v1alpha1.VerdictUnknown, v1alpha1.CiliumLivenessUnreadable},
	})
}
