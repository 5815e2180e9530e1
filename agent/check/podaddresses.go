// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// podSort is this node's pods by where their addresses lie, host-network pods and finished ones left out.
type podSort struct {
	slice   []string // in this node's slice of the overlay
	astray  []string // in the overlay and in another node's slice
	outside []string // outside of the overlay
	pending []string // without an address yet
}

// Networks counts this node's pods by the network that their addresses lie in.
type Networks struct{ Overlay, Outside, Pending int }

// NetworksOf counts the pods. Without the overlay's CIDRs or a list of pods the second result is false.
func NetworksOf(f *facts.Facts) (Networks, bool) {
	if !overlayKnown(f) || f.Pods.Sight != facts.Seen {
		return Networks{}, false
	}
	p := newScene(f, v1alpha1.RoleUnknown).sortPods()
	return Networks{Overlay: len(p.slice) + len(p.astray), Outside: len(p.outside), Pending: len(p.pending)}, true
}

func (s *scene) sortPods() podSort {
	var out podSort
	for _, p := range networkedPods(s.f) {
		name := fmt.Sprintf("%s/%s", p.Namespace, p.Name)
		into := &out.pending
		for _, ip := range p.IPs {
			if !ip.Is4() {
				continue
			}
			name = fmt.Sprintf("%s/%s (%s)", p.Namespace, p.Name, ip)
			switch {
			case !s.inOverlay(ip): // first: a slice that Cilium cut from another pool is not the overlay that is moved to
				into = &out.outside
			case s.inSlice(ip):
				into = &out.slice
			default:
				into = &out.astray
			}
		}
		*into = append(*into, name)
	}
	return out
}

// podAddresses asks whether every pod is in the network that the role says. A Mixed node is judged as an Overlay node.
func podAddresses(s *scene) v1alpha1.Finding {
	switch {
	case s.role == v1alpha1.RoleUnknown:
		return undecided(s)
	case s.f.Pods.Sight != facts.Seen:
		return unknown(v1alpha1.PodsUnknown, "the pods of this node could not be listed: %s", s.f.Pods.Detail)
	case !overlayKnown(s.f):
		return unknown(v1alpha1.SliceUnknown, "the CIDRs of the overlay are not known: %s", s.f.Settings.Detail)
	}
	p := s.sortPods()
	evidence := []v1alpha1.Evidence{number("overlay", len(p.slice)+len(p.astray), "pods"),
		number("outside", len(p.outside), "pods"), number("pending", len(p.pending), "pods")}
	switch {
	case s.role != v1alpha1.RoleLegacy:
		return with(s.overlayPods(p), evidence...)
	case s.f.Settings.Install == v1alpha1.InstallShared:
		return with(s.sharedPods(p), evidence...)
	}
	return with(s.legacyPods(p), evidence...)
}

func (s *scene) overlayPods(p podSort) v1alpha1.Finding {
	switch {
	case len(p.outside) > 0:
		return fail(v1alpha1.PodOutsideOverlay, "%d pods of this Overlay node have addresses outside of the overlay: %s; another CNI made them: replace this node", len(p.outside), joined(p.outside))
	case !s.sliceKnown():
		return s.sliceUnknown()
	case len(p.astray) > 0:
		return fail(v1alpha1.PodOutsideOverlay, "%d pods have addresses of another node's slice, not of %s: %s; peers send their packets there", len(p.astray), joined(s.f.Own.PodCIDRs), joined(p.astray))
	case len(p.pending) > 0:
		// This is what a CNI that cannot make pods looks like, so it is never taken for well.
		return unknown(v1alpha1.PodsPending, "%d pods have no address yet: %s; if it stays so, see their events", len(p.pending), joined(p.pending))
	case len(p.slice) > 0:
		return pass(v1alpha1.AsWanted, "%d pods have addresses of this node's slice %s", len(p.slice), joined(s.f.Own.PodCIDRs))
	}
	return s.noPods()
}

func (s *scene) legacyPods(p podSort) v1alpha1.Finding {
	inside := append(p.slice, p.astray...)
	switch {
	case len(inside) > 0:
		return fail(v1alpha1.PodInOverlay, "%d pods of this Legacy node have overlay addresses already: %s; it is a Mixed node", len(inside), joined(inside))
	case len(p.pending) > 0 && len(p.outside) > 0:
		// No reason to keep a node: a full ENI leaves pods pending for ever, and that is what the migration cures.
		return warn(v1alpha1.PodsPending, "%d pods have VPC addresses, and %d have none yet: %s", len(p.outside), len(p.pending), joined(p.pending))
	case len(p.outside) > 0:
		return pass(v1alpha1.AsWanted, "%d pods have VPC addresses and none an overlay address", len(p.outside))
	case len(p.pending) > 0:
		return unknown(v1alpha1.PodsPending, "none of the %d pods has an address yet: %s", len(p.pending), joined(p.pending))
	}
	return s.noPods()
}

// sharedPods judges a Legacy node of install mode Shared: pods of both networks, those of the overlay in this node's slice.
func (s *scene) sharedPods(p podSort) v1alpha1.Finding {
	inside := len(p.slice) + len(p.astray)
	switch {
	case inside > 0 && !s.sliceKnown():
		return s.sliceUnknown()
	case len(p.astray) > 0:
		return fail(v1alpha1.PodOutsideOverlay, "%d pods have addresses of another node's slice, not of %s: %s; peers send their packets there", len(p.astray), joined(s.f.Own.PodCIDRs), joined(p.astray))
	case len(p.pending) > 0 && inside+len(p.outside) > 0:
		return warn(v1alpha1.PodsPending, "%d pods have no address yet: %s", len(p.pending), joined(p.pending))
	case inside > 0:
		return pass(v1alpha1.PodsShared, "%d pods have overlay addresses and %d VPC addresses, as install mode Shared has it on a Legacy node", inside, len(p.outside))
	case len(p.outside) > 0:
		return pass(v1alpha1.AsWanted, "%d pods have VPC addresses", len(p.outside))
	case len(p.pending) > 0:
		return unknown(v1alpha1.PodsPending, "none of the %d pods has an address yet: %s", len(p.pending), joined(p.pending))
	}
	return s.noPods()
}

// noPods judges a node without a pod that has an address. Cilium's health endpoint takes a pod's place as the sample: it has an
// address of this node's slice and an interface like a pod's. A new node has nothing else.
func (s *scene) noPods() v1alpha1.Finding {
	if !s.sliceKnown() {
		return s.sliceUnknown()
	}
	if s.f.Endpoints.Sight == facts.Seen && s.f.Links.Sight == facts.Seen {
		proved, bad := s.proveHealth(nil)
		if bad != "" {
			return fail(v1alpha1.EndpointWrong, "%s", bad)
		}
		if proved {
			return pass(v1alpha1.AsWanted, "no pod with a network of its own is here; %s has an address of this node's slice %s", healthLink, joined(s.f.Own.PodCIDRs))
		}
	}
	return unknown(v1alpha1.NothingToProve, "no pod with a network of its own and no %s is here, so nothing shows what network the next pod gets", healthLink)
}

func (s *scene) sliceUnknown() v1alpha1.Finding {
	detail := s.f.Own.Detail
	if wide := s.sliceTooWide(); wide.IsValid() {
		detail = fmt.Sprintf("its CiliumNode names the pod CIDR %s, which is more than the whole overlay", wide)
	}
	if detail == "" {
		detail = "its CiliumNode names no pod CIDR"
	}
	return unknown(v1alpha1.SliceUnknown, "this node's slice of the overlay is not known: %s; see whether Cilium's operator runs", detail)
}
