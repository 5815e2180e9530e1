// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestKernel(t *testing.T) {
	release := func(r string) func(*facts.Facts) { return func(f *facts.Facts) { f.Kernel.Release = r } }
	tell(t, v1alpha1.CheckKernel, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"Amazon Linux 2023": {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"5.10":              {release("5.10.0-30-amd64"), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"5.9":               {release("5.9.16"), v1alpha1.VerdictFail, v1alpha1.KernelTooOld},
		"4.18":              {release("4.18.0-553.el8"), v1alpha1.VerdictFail, v1alpha1.KernelTooOld},
		"no number":         {release("linux"), v1alpha1.VerdictUnknown, v1alpha1.KernelUnknown},
		"one number":        {release("6"), v1alpha1.VerdictUnknown, v1alpha1.KernelUnknown},
	})
}
