// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"strconv"
	"strings"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// kernel asks whether Cilium can run on this kernel at all. The release is judged, not the features: a kernel with
// backported features and a smaller number is refused here and may be waived.
func kernel(s *scene) v1alpha1.Finding {
	k := s.f.Kernel
	if k.Sight != facts.Seen {
		return unknown(v1alpha1.KernelUnknown, "the kernel's release could not be read: %s", k.Detail)
	}
	major, minor, ok := twoNumbers(k.Release)
	if !ok {
		return unknown(v1alpha1.KernelUnknown, "the kernel's release %q does not begin with two numbers", k.Release)
	}
	const oldest = v1alpha1.OldestKernelMajor
	evidence := []v1alpha1.Evidence{number("major", major, ""), number("minor", minor, "")}
	if major < oldest || major == oldest && minor < v1alpha1.OldestKernelMinor {
		return with(fail(v1alpha1.KernelTooOld, "the kernel is %s and Cilium 1.18 needs %d.%d: replace the node by one with a newer image", k.Release, oldest, v1alpha1.OldestKernelMinor), evidence...)
	}
	return with(pass(v1alpha1.AsWanted, "the kernel is %s", k.Release), evidence...)
}

// twoNumbers reads the two numbers that a release begins with.
func twoNumbers(release string) (major, minor int, ok bool) {
	first, rest, _ := strings.Cut(release, ".")
	second := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(second, 10, 16)
	return int(a), int(b), err == nil && err2 == nil
}
