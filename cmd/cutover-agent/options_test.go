// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// FuzzFlags: a flag says what was meant or is refused; nothing that was given is left out in silence.
func FuzzFlags(f *testing.F) {
	f.Add("10.244.0.0/16", "Conflist,MTU", "kube-system/aws-node", "Secondary")
	f.Add("10.244.0.1/16,10.245.0.0/16", "", "aws-node", "Shared")
	f.Add(`"10.244.0.0/16`, `"a","b`, "/", "")
	f.Add("10.244.0.0", "conflist", "a/b/c", "secondary")
	f.Fuzz(func(t *testing.T, overlay, off, legacy, install string) {
		var o options
		set := pflag.NewFlagSet("", pflag.ContinueOnError)
		o.flags(set)
		if set.Parse([]string{"--overlay-cidrs=" + overlay, "--disable-checks=" + off, "--legacy-daemonset=" + legacy, "--install-mode=" + install}) != nil {
			return
		}
		if names, err := o.switchedOff(); err == nil {
			for _, name := range o.off {
				if !names[v1alpha1.CheckName(name)] || !slices.Contains(check.Names(), v1alpha1.CheckName(name)) {
					t.Errorf("--disable-checks=%q: %v", off, names)
				}
			}
		}
		s, err := o.fallback()
		if err != nil {
			return
		}
		if s.Legacy.Namespace+"/"+s.Legacy.Name != legacy || string(s.Install) != install {
			t.Errorf("%q, %q: %+v", legacy, install, s)
		}
		if (s.Sight == facts.Seen) != (len(s.Overlay) > 0) || len(s.Overlay) != len(o.overlay) {
			t.Errorf("--overlay-cidrs=%q: %+v", overlay, s)
		}
		for i, p := range s.Overlay {
			if was, err := netip.ParsePrefix(strings.TrimSpace(o.overlay[i])); err != nil || was.Masked() != p {
				t.Errorf("--overlay-cidrs=%q: %s", overlay, p)
			}
		}
	})
}
