// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestTunnelDevice(t *testing.T) {
	on := func(name string, change func(*facts.Link)) func(*facts.Facts) {
		return func(f *facts.Facts) { edit(f, name, change) }
	}
	flannel := func(up bool) facts.Link {
		l := link(90, "flannel.1", "vxlan", 8951)
		l.Up, l.VXLAN = up, &facts.VXLAN{Port: 8472, VNI: 1}
		return l
	}
	tell(t, v1alpha1.CheckTunnelDevice, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"as it should be":      {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"missing":              {func(f *facts.Facts) { without(f, tunnelLink) }, v1alpha1.VerdictFail, v1alpha1.TunnelMissing},
		"no cilium_host":       {func(f *facts.Facts) { without(f, hostLink) }, v1alpha1.VerdictFail, v1alpha1.TunnelMissing},
		"down":                 {on(tunnelLink, func(l *facts.Link) { l.Up = false }), v1alpha1.VerdictFail, v1alpha1.TunnelDown},
		"cilium_net down":      {on(netLink, func(l *facts.Link) { l.Up = false }), v1alpha1.VerdictFail, v1alpha1.TunnelDown},
		"a fixed VNI":          {on(tunnelLink, func(l *facts.Link) { l.VXLAN.External, l.VXLAN.VNI = false, 1 }), v1alpha1.VerdictFail, v1alpha1.TunnelWrongKind},
		"another kind":         {on(tunnelLink, func(l *facts.Link) { l.Kind, l.VXLAN = "geneve", nil }), v1alpha1.VerdictFail, v1alpha1.TunnelWrongKind},
		"another port":         {on(tunnelLink, func(l *facts.Link) { l.VXLAN.Port = 4789 }), v1alpha1.VerdictFail, v1alpha1.TunnelWrongPort},
		"larger than the NIC":  {on("ens5", func(l *facts.Link) { l.MTU = 1500 }), v1alpha1.VerdictFail, v1alpha1.TunnelWrongMTU},
		"host larger":          {on(hostLink, func(l *facts.Link) { l.MTU = 9002 }), v1alpha1.VerdictFail, v1alpha1.TunnelWrongMTU},
		"smaller than the NIC": {on(tunnelLink, func(l *facts.Link) { l.MTU = 1500 }), v1alpha1.VerdictWarn, v1alpha1.TunnelWrongMTU},
		"port taken, not made": {func(f *facts.Facts) {
			without(f, tunnelLink)
			f.Links.List = append(f.Links.List, flannel(true))
		}, v1alpha1.VerdictFail, v1alpha1.TunnelPortTaken},
		"port taken, made and down": {func(f *facts.Facts) {
			edit(f, tunnelLink, func(l *facts.Link) { l.Up = false })
			f.Links.List = append(f.Links.List, flannel(true))
		}, v1alpha1.VerdictFail, v1alpha1.TunnelPortTaken},
		"somebody else's of that port is down": {func(f *facts.Facts) {
			f.Links.List = append(f.Links.List, flannel(false))
		}, v1alpha1.VerdictWarn, v1alpha1.TunnelPortTaken},
		"no NIC to compare with": {func(f *facts.Facts) {
			f.Node.InternalIPs, f.Routes.List = nil, nil
		}, v1alpha1.VerdictUnknown, v1alpha1.UnderlayUnknown},
	})
}
