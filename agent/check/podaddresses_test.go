// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"net/netip"
	"testing"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

func addPod(p facts.Pod) func(*facts.Facts) {
	return func(f *facts.Facts) { f.Pods.List = append(f.Pods.List, p) }
}

func noPods(f *facts.Facts) { f.Pods.List = nil }

func TestPodAddressesOfAnOverlayNode(t *testing.T) {
	finished := pod("c", "10.0.1.40")
	finished.Finished = true
	onHost := pod("c", "10.0.1.10")
	onHost.HostNetwork = true
	noHealth := func(f *facts.Facts) { without(f, healthLink) }
	noSlice := func(f *facts.Facts) { f.Own = facts.Own{Look: broken} }
	tell(t, v1alpha1.CheckPodAddresses, v1alpha1.RoleOverlay, overlayNode, map[string]tale{
		"as it should be":             {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a pod outside":               {addPod(pod("c", "10.0.1.40")), v1alpha1.VerdictFail, v1alpha1.PodOutsideOverlay},
		"a pod of another slice":      {addPod(pod("c", "10.244.2.7")), v1alpha1.VerdictFail, v1alpha1.PodOutsideOverlay},
		"a finished pod outside":      {addPod(finished), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a pod of the host's network": {addPod(onHost), v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a pod without an address":    {addPod(pod("c")), v1alpha1.VerdictUnknown, v1alpha1.PodsPending},
		"no pods, with lxc_health":    {noPods, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"no pods, without lxc_health": {all(noPods, noHealth), v1alpha1.VerdictUnknown, v1alpha1.NothingToProve},
		"no pods, a wrong lxc_health": {all(noPods, setEndpoint("10.244.1.5", func(e *ciliummap.Endpoint) { e.NodeMAC = mac(99) })), v1alpha1.VerdictFail, v1alpha1.EndpointWrong},
		"no pods, and maps unread":    {all(noPods, func(f *facts.Facts) { f.Endpoints = facts.Endpoints{Look: broken} }), v1alpha1.VerdictUnknown, v1alpha1.NothingToProve},
		"the slice is not known":      {noSlice, v1alpha1.VerdictUnknown, v1alpha1.SliceUnknown},
		"outside whatever the slice":  {all(noSlice, addPod(pod("c", "10.0.1.40"))), v1alpha1.VerdictFail, v1alpha1.PodOutsideOverlay},
		"a slice of another pool":     {func(f *facts.Facts) { f.Settings.Overlay = []netip.Prefix{cidr("100.64.0.0/16")} }, v1alpha1.VerdictFail, v1alpha1.PodOutsideOverlay},
		"a CiliumNode without CIDRs":  {func(f *facts.Facts) { f.Own.PodCIDRs = nil }, v1alpha1.VerdictUnknown, v1alpha1.SliceUnknown},
	})
	tell(t, v1alpha1.CheckPodAddresses, v1alpha1.RoleMixed, overlayNode, map[string]tale{
		"judged as an Overlay node": {addPod(pod("c", "10.0.1.40")), v1alpha1.VerdictFail, v1alpha1.PodOutsideOverlay},
	})
}

func TestPodAddressesOfALegacyNode(t *testing.T) {
	shared := func(f *facts.Facts) { f.Settings.Install = v1alpha1.InstallShared }
	pendingOnly := func(f *facts.Facts) { f.Pods.List = []facts.Pod{pod("c")} }
	tell(t, v1alpha1.CheckPodAddresses, v1alpha1.RoleLegacy, legacyNode, map[string]tale{
		"as it should be":               {nil, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"a pod inside":                  {addPod(pod("c", "10.244.1.9")), v1alpha1.VerdictFail, v1alpha1.PodInOverlay},
		"a pod without an address":      {addPod(pod("c")), v1alpha1.VerdictWarn, v1alpha1.PodsPending},
		"only pods without an address":  {pendingOnly, v1alpha1.VerdictUnknown, v1alpha1.PodsPending},
		"no pods, with lxc_health":      {noPods, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"no pods, without lxc_health":   {all(noPods, func(f *facts.Facts) { without(f, healthLink) }), v1alpha1.VerdictUnknown, v1alpha1.NothingToProve},
		"shared: pods of both":          {all(shared, addPod(pod("c", "10.244.1.9"))), v1alpha1.VerdictPass, v1alpha1.PodsShared},
		"shared: a pod of another node": {all(shared, addPod(pod("c", "10.244.2.9"))), v1alpha1.VerdictFail, v1alpha1.PodOutsideOverlay},
		"shared: VPC pods only":         {shared, v1alpha1.VerdictPass, v1alpha1.AsWanted},
		"shared: slice not known":       {all(shared, addPod(pod("c", "10.244.1.9")), func(f *facts.Facts) { f.Own = facts.Own{} }), v1alpha1.VerdictUnknown, v1alpha1.SliceUnknown},
		"shared: only pending":          {all(shared, pendingOnly), v1alpha1.VerdictUnknown, v1alpha1.PodsPending},
	})
}

func TestNetworksCountsPods(t *testing.T) {
	f := overlayNode()
	addPod(pod("c", "10.244.2.7"))(f)
	addPod(pod("d", "10.0.1.40"))(f)
	addPod(pod("e"))(f)
	if got, ok := NetworksOf(f); !ok || got != (Networks{Overlay: 3, Outside: 1, Pending: 1}) {
		t.Errorf("%+v %t", got, ok)
	}
	if _, ok := NetworksOf(&facts.Facts{}); ok {
		t.Error("counted what nobody listed")
	}
}
