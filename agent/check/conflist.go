// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/cniconf"
)

// conflist asks which file gives the next pod its network, and whether it is the one that the role wants. A Mixed node is
// judged as an Overlay node: that is what its replacement must be.
func conflist(s *scene) v1alpha1.Finding {
	if s.role == v1alpha1.RoleUnknown {
		return undecided(s)
	}
	o := s.net
	switch o.State {
	case cniconf.Ready:
		f := winner(s, o)
		return with(f, number("files", 1+len(o.Ignored), "files"))
	case cniconf.NoNetwork, cniconf.Refusing:
		return fail(v1alpha1.ConflistBroken, "%s", o.Why)
	case cniconf.Empty, cniconf.Missing:
		return fail(v1alpha1.ConflistNone, "%s", o.Why)
	}
	return unknown(v1alpha1.ConflistUnreadable, "%s", o.Why)
}

func winner(s *scene, o cniconf.Outcome) v1alpha1.Finding {
	legacy := s.role == v1alpha1.RoleLegacy
	shared := s.f.Settings.Install == v1alpha1.InstallShared
	switch o.Winner.PodNetwork {
	case cniconf.ChainedCilium:
		return fail(v1alpha1.ConflistChained, "%s A chained Cilium gives no overlay addresses; install it as the migration's documentation says.", o.Why)
	case cniconf.KindUnknown:
		return unknown(v1alpha1.ConflistForeignFirst, "%s What it asks for a pod's first interface cannot be told from this directory.", o.Why)
	case cniconf.OtherCNI, cniconf.Multus:
		return fail(v1alpha1.ConflistForeignFirst, "%s", o.Why)
	case cniconf.VPCCNI:
		if !legacy {
			return fail(v1alpha1.ConflistWrongCNI, "%s This node should be Cilium's: replace it.", o.Why)
		}
	case cniconf.Cilium:
		if legacy && shared {
			// Wanted by that mode: both files lie there, and new pods of an old node are overlay pods.
			return pass(v1alpha1.ConflistSharedWindow, "%s Install mode Shared has it so on a node that the VPC CNI still serves.", o.Why)
		}
		if legacy {
			return fail(v1alpha1.ConflistWrongCNI, "%s In install mode Secondary an old node must not: see that it carries the fence label and that Cilium runs with cni.customConf=true.", o.Why)
		}
	}
	// In mode Shared, Cilium's file behind the VPC CNI's on an old node would be a surprise too: it sorts first.
	if len(o.Ignored) > 0 {
		return warn(v1alpha1.ConflistLeftovers, "%s %s", o.Why, o.Then)
	}
	for _, l := range o.Leftovers {
		if l.SetAside {
			advice := "somebody has put it here: find out who"
			if legacy {
				advice = "on an old node Cilium must not be exclusive, or it takes the VPC CNI's file away: install it with cni.exclusive=false"
			}
			return warn(v1alpha1.ConflistSetAside, "%s Beside it lies %s, %s; %s.", o.Why, l.Name, l.What, advice)
		}
	}
	return pass(v1alpha1.AsWanted, "%s", o.Why)
}
