// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

func TestGoodNodesPassEverything(t *testing.T) {
	for role, f := range map[v1alpha1.Role]*facts.Facts{v1alpha1.RoleOverlay: overlayNode(), v1alpha1.RoleLegacy: legacyNode()} {
		findings := Judge(f, role, nil)
		for _, x := range findings {
			if x.Verdict != v1alpha1.VerdictPass {
				t.Errorf("%s: %s: %s %s: %s", role, x.Check, x.Verdict, x.Reason, x.Message)
			}
		}
		if len(findings) != len(Names()) || Worst(findings) != v1alpha1.VerdictPass {
			t.Errorf("%s: %d findings, worst %s", role, len(findings), Worst(findings))
		}
	}
}

// Facts of which nothing was seen must not let anything pass: whoever forgets to gather a part gets Unknown.
func TestNothingPassesOnFactsThatNobodyGathered(t *testing.T) {
	for _, role := range []v1alpha1.Role{v1alpha1.RoleOverlay, v1alpha1.RoleMixed, v1alpha1.RoleUnknown, v1alpha1.RoleLegacy} {
		for _, x := range Judge(&facts.Facts{}, role, nil) {
			if x.Reason == v1alpha1.NotOnThisRole || x.Verdict == v1alpha1.VerdictNotAsked && x.Reason == v1alpha1.MeterAtRest {
				continue
			}
			if x.Verdict != v1alpha1.VerdictUnknown {
				t.Errorf("%s: %s: %s %s", role, x.Check, x.Verdict, x.Reason)
			}
		}
	}
}

// Each part in turn breaks; what was a Pass because of it must become Unknown, and nothing may become Fail or Warn.
func TestAPartThatCannotBeReadIsNeverAVerdict(t *testing.T) {
	for part, breakIt := range map[string]func(*facts.Facts){
		"links":     func(f *facts.Facts) { f.Links = facts.Links{Look: broken} },
		"routes":    func(f *facts.Facts) { f.Routes = facts.Routes{Look: broken} },
		"rules":     func(f *facts.Facts) { f.Rules = facts.Rules{Look: broken} },
		"paths":     func(f *facts.Facts) { f.Paths = facts.Paths{Look: broken} },
		"sysctls":   func(f *facts.Facts) { f.Forwarding = facts.Forwarding{Look: broken} },
		"pins":      func(f *facts.Facts) { f.Pins = facts.Pins{Look: broken} },
		"programs":  func(f *facts.Facts) { f.Programs = facts.Programs{Look: broken} },
		"endpoints": func(f *facts.Facts) { f.Endpoints = facts.Endpoints{Look: broken} },
		"ipcache":   func(f *facts.Facts) { f.IPCache = facts.IPCache{Look: broken} },
		"liveness":  func(f *facts.Facts) { f.Liveness = facts.Liveness{Look: broken} },
		"counters":  func(f *facts.Facts) { f.Counters = facts.Counters{Look: broken} },
		"kernel":    func(f *facts.Facts) { f.Kernel = facts.Kernel{Look: broken} },
		"pods":      func(f *facts.Facts) { f.Pods = facts.Pods{Look: broken} },
		"own slice": func(f *facts.Facts) { f.Own = facts.Own{Look: broken} },
		"peers":     func(f *facts.Facts) { f.Peers = facts.Peers{Look: broken} },
		"meter":     func(f *facts.Facts) { f.Meter = facts.Meter{Look: broken} },
		"settings":  func(f *facts.Facts) { f.Settings = facts.Settings{Look: broken} },
	} {
		f := overlayNode()
		breakIt(f)
		unknown := 0
		for _, x := range Judge(f, v1alpha1.RoleOverlay, nil) {
			switch x.Verdict {
			case v1alpha1.VerdictUnknown:
				unknown++
			case v1alpha1.VerdictPass:
			default:
				t.Errorf("without %s: %s: %s %s: %s", part, x.Check, x.Verdict, x.Reason, x.Message)
			}
		}
		if unknown == 0 {
			t.Errorf("without %s everything passes", part)
		}
	}
}

func TestASwitchedOffCheckIsShownAndDoesNotCount(t *testing.T) {
	f := overlayNode()
	f.Liveness.Stamp = 0
	off := map[v1alpha1.CheckName]bool{v1alpha1.CheckCiliumAlive: true}
	findings := Judge(f, v1alpha1.RoleOverlay, off)
	x := find(t, findings, v1alpha1.CheckCiliumAlive)
	if x.Verdict != v1alpha1.VerdictNotAsked || x.Reason != v1alpha1.SwitchedOff || Worst(findings) != v1alpha1.VerdictPass {
		t.Errorf("%+v, worst %s", x, Worst(findings))
	}
	all := map[v1alpha1.CheckName]bool{}
	for _, n := range Names() {
		all[n] = true
	}
	if w := Worst(Judge(f, v1alpha1.RoleOverlay, all)); w != v1alpha1.VerdictUnknown {
		t.Errorf("with everything switched off the worst is %s", w)
	}
}

func TestMessagesFitTheirField(t *testing.T) {
	f := overlayNode()
	f.Pods.List = nil
	for range 50 {
		f.Pods.List = append(f.Pods.List, facts.Pod{Namespace: strings.Repeat("ä", 60), Name: strings.Repeat("ß", 250), IPs: pod("", "10.0.9.1").IPs})
	}
	x := find(t, Judge(f, v1alpha1.RoleOverlay, nil), v1alpha1.CheckPodAddresses)
	if len(x.Message) > v1alpha1.MaxMessageBytes || !utf8.ValidString(x.Message) || !strings.HasSuffix(x.Message, "...") {
		t.Errorf("%d bytes: %q", len(x.Message), x.Message)
	}
}

func TestEveryCheckOfTheContractIsJudgedInItsOrder(t *testing.T) {
	want := []v1alpha1.CheckName{
		v1alpha1.CheckConflist, v1alpha1.CheckTunnelDevice, v1alpha1.CheckPrograms, v1alpha1.CheckOverlayMaps, v1alpha1.CheckServices, v1alpha1.CheckCiliumAlive,
		v1alpha1.CheckOverlayRoutes, v1alpha1.CheckMTU, v1alpha1.CheckTunnelMeter, v1alpha1.CheckPodAddresses, v1alpha1.CheckLegacyResidue, v1alpha1.CheckDrops,
		v1alpha1.CheckKernel,
	}
	if !slices.Equal(Names(), want) {
		t.Errorf("%v", Names())
	}
}
