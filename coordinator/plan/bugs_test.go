// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import "github.com/cni-cutover/cni-cutover/api/v1alpha1"

// bug is a mistake that the simulation can make, to show that the laws see it.
type bug int

// The bugs.
const (
	noBug bug = iota
	bugNoCompare
	bugLedgerFromCache
	bugStaleGrant
	bugActsFirst
	bugUnchecked
	bugAnswerOfAnyUID
	bugAnswerOfAnyBoot
	bugOldTerm
	bugForgetsClaims
	bugAnyNodeOfTheName
	bugBlindPatch
	bugForgetsWhatStoodThere
	bugBlindUncordon
	bugBlindLabel
	bugBelievesInAbsence
	bugs
)

// plantedBug is a row of the table of bugs.
type plantedBug struct {
	bug  bug
	name string
	// within is how many schedules may pass before a law sees it.
	within uint64
	// storm are events that are drawn more often than in ordinary schedules, because the bug shows itself only in them.
	storm []kind
	// law that is broken; empty if more than one may be.
	law string
}

func plantedBugs() []plantedBug {
	return []plantedBug{
		{bugNoCompare, "the ledger is written without comparing", 500, nil, ""},
		{bugLedgerFromCache, "the ledger is read from a cache and written with its live version", 500, nil, ""},
		{bugStaleGrant, "slots are granted on what a cache shows", 500, nil, ""},
		{bugActsFirst, "what the ledger is about to say is done before it is written", 500, nil, ""},
		{bugUnchecked, "no action reads its slot live", 2000, []kind{aStep, aStep, aWhile}, "an action needs its slot"},
		{bugAnswerOfAnyUID, "an answer counts whatever node it is of", 2000, []kind{aForeignAnswer, aRebirth}, "nothing moves on Unknown"},
		{bugAnswerOfAnyBoot, "an answer counts whatever boot it is of", 2000, []kind{aReboot}, ""},
		{bugOldTerm, "an answer to another leader counts", 500, nil, "nothing moves on Unknown"},
		{bugForgetsClaims, "a finished slot forgets what it had claimed", 1000, nil, "one slot claims a replacement"},
		{bugAnyNodeOfTheName, "a patch does not name the UID of its node", 3000, []kind{aRebirth, aStep, aStep, aLateWrite, anArrival}, ""},
		{bugBlindPatch, "a patch does not name the version that was read", 3000, []kind{aForeignCordon, aForeignCordon, aForeignUncordon, aStep, aNewCutover, aLateWrite, anArrival}, ""},
		{bugForgetsWhatStoodThere, "a cordon does not record what stood there before", 3000, []kind{aForeignCordon, aForeignCordon, aStep, aStep, aNewCutover}, "only own cordons are undone"},
		{bugBlindUncordon, "a cordon is undone without reading the ledger", 2000, nil, "an action needs its slot"},
		{bugBlindLabel, "a lost label is put back on whatever boot", 3000, []kind{aLostLabel, aReboot}, "one CNI owns a node"},
		{bugBelievesInAbsence, "a node that a cache does not show counts as gone", 3000, []kind{aCalm, aLook}, ""},
	}
}

// forge makes an answer look better than it is, as a coordinator that does not look closely would take it.
func (s *simulation) forge(nc *v1alpha1.NodeCutover, n *Node) *v1alpha1.NodeCutover {
	if s.bug != bugAnswerOfAnyUID && s.bug != bugAnswerOfAnyBoot || nc.Status.NodeUID == "" {
		return nc
	}
	forged := *nc
	if s.bug == bugAnswerOfAnyUID {
		forged.Status.NodeUID = n.UID
	}
	if s.bug == bugAnswerOfAnyBoot && forged.Status.NodeUID == n.UID {
		forged.Status.BootID = n.BootID
	}
	if s.forged == nil {
		s.forged = map[*v1alpha1.NodeCutover]*v1alpha1.NodeCutover{}
	}
	s.forged[&forged] = nc
	return &forged
}

// actFirst acts on what the ledger is only about to say.
func (s *simulation) actFirst(c *coordinator) {
	next := *c.read
	next.Status = c.d.Status
	c.w.Cutover = &next
	for i := range next.Status.Slots {
		s.lookAtSlot(&c.w, &next.Status.Slots[i])
	}
	c.d.Actions = Decide(&c.w).Actions
}
