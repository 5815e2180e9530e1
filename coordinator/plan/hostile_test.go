// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// FuzzNoAnswerIsSafeByAccident judges answers that an agent in strange hands could give. Each byte of plot is a finding: which
// check, and which verdict. An answer is safe if and only if every required check is there, and nothing worse than a warning
// that holds nothing is said of it; and whatever is said of it, people can read.
func FuzzNoAnswerIsSafeByAccident(f *testing.F) {
	whole := []byte{}
	for i := range allChecks() {
		whole = append(whole, byte(i))
	}
	f.Add(whole, "AsWanted", "as it should be", "uid-1", "boot-1", "v1", uint8(0))
	f.Add(append([]byte{0x31}, whole...), "MTUWasteful", "\x1b[2J\nnode-2: safe", "uid-1", "boot-1", "v1", uint8(1))
	f.Add([]byte{0xff, 0x00}, strings.Repeat("R", 5000), "\xff\xfe", "uid-2", "\x00", strings.Repeat("v", 5000), uint8(2))
	f.Fuzz(func(t *testing.T, plot []byte, reason, message, uid, boot, version string, role uint8) {
		now := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)
		spec := baseSpec()
		spec.Rollout.HoldOn = []string{"MTUWasteful"}
		roles := []v1alpha1.Role{v1alpha1.RoleLegacy, v1alpha1.RoleMixed, v1alpha1.RoleOverlay}
		q := question{Purpose: v1alpha1.PurposeDrain, Role: roles[int(role)%len(roles)]}
		d := &decider{w: &World{Now: now, Term: "term1"}, spec: &spec}
		n := &Node{Name: "n1", UID: "uid-1", BootID: "boot-1"}
		c := d.newChallenge(n, q)
		s := v1alpha1.NodeCutoverStatus{ChallengeID: c.ID, Role: q.Role, JudgedRole: q.Role, AgentVersion: version, BootID: boot}
		s.NodeUID = n.UID
		if uid != "uid-1" {
			s.NodeUID = "somebody else: " + n.UID
		}
		checks := append(allChecks(), "Invented", "", "conflist")
		verdicts := []v1alpha1.Verdict{v1alpha1.VerdictPass, v1alpha1.VerdictWarn, v1alpha1.VerdictFail, v1alpha1.VerdictUnknown, v1alpha1.VerdictNotAsked, "", "pass", "PASS"}
		fine, spoilt := map[v1alpha1.CheckName]bool{}, map[v1alpha1.CheckName]bool{}
		for _, p := range plot {
			x := v1alpha1.Finding{Check: checks[int(p&15)%len(checks)], Verdict: verdicts[int(p>>4)%len(verdicts)], Reason: v1alpha1.Reason(reason), Message: message}
			s.Findings = append(s.Findings, x)
			if x.Verdict == v1alpha1.VerdictPass || x.Verdict == v1alpha1.VerdictWarn && reason != "MTUWasteful" {
				fine[x.Check] = true
			} else {
				spoilt[x.Check] = true
			}
		}
		want := uid == "uid-1" && boot == "boot-1" && version != ""
		for _, check := range c.RequiredChecks {
			want = want && fine[check] && !spoilt[check]
		}
		n.Cutover = &v1alpha1.NodeCutover{Spec: v1alpha1.NodeCutoverSpec{Challenge: &c}, Status: s}
		got := d.ask(n, q, true)
		if got.safe != want {
			t.Errorf("safe %t (%s: %s), want %t", got.safe, got.reason, got.message, want)
		}
		d.wait(n, got.reason, got.message)
		said := d.status.Waiting[0].Message
		if len(said) > v1alpha1.MaxMessageBytes || !utf8.ValidString(said) || strings.ContainsFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("people are told %q", said)
		}
		if !got.safe && said == "" {
			t.Error("nobody is told why")
		}
	})
}

// FuzzClip: what comes out is plain, and what is plain comes out as it is. Both programs' messages are made so.
func FuzzClip(f *testing.F) {
	for _, text := range []string{"", "\x1b[2J", "a\nb", "\xff\xfe", strings.Repeat("é", 300), strings.Repeat("x", 513), "\u202e", "a\u2028b", "\ufffd", "<&>\"\\"} {
		f.Add(text)
	}
	plain := func(s string) bool {
		return len(s) <= v1alpha1.MaxMessageBytes && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
	}
	f.Fuzz(func(t *testing.T, text string) {
		message := Clip(text)
		if !plain(message) {
			t.Errorf("%q becomes %q", text, message)
		}
		if again := Clip(message); again != message {
			t.Errorf("%q becomes %q when it is clipped again", message, again)
		}
		if plain(text) && !strings.ContainsRune(text, unicode.ReplacementChar) && message != text {
			t.Errorf("%q was plain and became %q", text, message)
		}
	})
}
