// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"math"
	"regexp"
	"strconv"
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

// FuzzKernelRelease: a release passes only if it begins with two numbers that are at least those that are wanted, as a reader
// would say who never saw the code.
func FuzzKernelRelease(f *testing.F) {
	for _, release := range []string{"6.1.134-152.225.amzn2023.x86_64", "5.10.0", "5.9.99", "5.4", "4.19.0-27-amd64", "6", "6.", ".6", "", "-6.1", "6.-1", "+6.1", "6. 1", "6 .1", "6_1.1", "06.01", "0x6.1", "٦.١", "99999999999999999999.1", "6.99999999999999999999", "5.1\n0", "5.10\x1b[2J"} {
		f.Add(release)
	}
	shape := regexp.MustCompile(`^([0-9]+)\.([0-9]+)`)
	f.Fuzz(func(t *testing.T, release string) {
		host := overlayNode()
		host.Kernel.Release = release
		x := find(t, Judge(host, v1alpha1.RoleOverlay, nil), v1alpha1.CheckKernel)
		want := v1alpha1.VerdictUnknown
		if m := shape.FindStringSubmatch(release); m != nil {
			major, err := strconv.Atoi(m[1])
			minor, err2 := strconv.Atoi(m[2])
			switch {
			case err != nil || err2 != nil || major > math.MaxUint16 || minor > math.MaxUint16: // no kernel's
			case major < 5 || major == 5 && minor < 10:
				want = v1alpha1.VerdictFail
			default:
				want = v1alpha1.VerdictPass
			}
		}
		if x.Verdict != want {
			t.Errorf("%q: %s (%s), want %s", release, x.Verdict, x.Message, want)
		}
	})
}
