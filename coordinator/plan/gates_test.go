// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"net/netip"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/vpccni"
)

func TestFenceDoesNotStartWithoutTheSettingsThatKeepServicesAlive(t *testing.T) {
	overlay := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	wider := []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("10.240.0.0/12")}
	waiver := func(check v1alpha1.Reason, until time.Duration) func(*v1alpha1.CutoverSpec, time.Time) {
		return func(s *v1alpha1.CutoverSpec, now time.Time) {
			s.Waivers = []v1alpha1.Waiver{{Check: string(check), Until: metav1.NewTime(now.Add(until))}}
		}
	}
	rolled := Rollout{Current: true, Desired: 2, Updated: 2, Ready: 2}
	tests := map[string]struct {
		legacy Legacy
		strips bool
		spec   func(*v1alpha1.CutoverSpec, time.Time)
		want   v1alpha1.Reason
	}{
		"both settings":                         {legacy: Legacy{Settings: vpccni.Settings{ExternalServiceCIDRs: overlay, ExcludeSNATCIDRs: overlay}, Rollout: rolled}},
		"wider networks cover":                  {legacy: Legacy{Settings: vpccni.Settings{ExternalServiceCIDRs: wider, ExcludeSNATCIDRs: wider}, Rollout: rolled}},
		"external SNAT instead of the second":   {legacy: Legacy{Settings: vpccni.Settings{ExternalServiceCIDRs: overlay, ExternalSNAT: true}, Rollout: rolled}},
		"none":                                  {legacy: Legacy{Rollout: rolled}, want: v1alpha1.LegacySettings},
		"only EXCLUDE_SNAT, worse than nothing": {legacy: Legacy{Settings: vpccni.Settings{ExcludeSNATCIDRs: overlay}, Rollout: rolled}, want: v1alpha1.LegacySettings},
		"only EXTERNAL_SERVICE":                 {legacy: Legacy{Settings: vpccni.Settings{ExternalServiceCIDRs: overlay}, Rollout: rolled}, want: v1alpha1.LegacySettings},
		"a part of the overlay":                 {legacy: Legacy{Settings: vpccni.Settings{ExternalServiceCIDRs: overlay, ExcludeSNATCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}}, Rollout: rolled}, want: v1alpha1.LegacySettings},
		"not rolled out":                        {legacy: Legacy{Settings: vpccni.Settings{ExternalServiceCIDRs: overlay, ExcludeSNATCIDRs: overlay}, Rollout: Rollout{Current: true, Desired: 2, Updated: 1, Ready: 2}}, want: v1alpha1.LegacySettings},
		"Cilium strips the rules":               {legacy: Legacy{Settings: vpccni.Settings{ExternalServiceCIDRs: overlay, ExcludeSNATCIDRs: overlay}, Rollout: rolled}, strips: true, want: v1alpha1.CiliumStripsRules},
		"waived":                                {legacy: Legacy{Rollout: rolled}, spec: waiver(v1alpha1.LegacySettings, time.Hour)},
		"waived until yesterday":                {legacy: Legacy{Rollout: rolled}, spec: waiver(v1alpha1.LegacySettings, -time.Hour), want: v1alpha1.LegacySettings},
		"the other gate waived":                 {legacy: Legacy{Rollout: rolled}, spec: waiver(v1alpha1.CiliumStripsRules, time.Hour), want: v1alpha1.LegacySettings},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := baseSpec()
			c := newToyCluster(2, spec)
			if tt.spec != nil {
				tt.spec(&c.cutover.Spec, c.now)
			}
			c.cutover.Status.Phase = v1alpha1.PhaseFenceLegacy
			w := c.world()
			tt.legacy.Found = true
			w.Legacy, w.Cilium.StripsRules = tt.legacy, tt.strips
			d := Decide(w)
			begun := false
			for _, r := range d.Status.Phases {
				begun = begun || (r.Phase == v1alpha1.PhaseFenceLegacy && !r.StartedAt.IsZero())
			}
			if begun != (tt.want == "") {
				t.Errorf("the phase begins = %t, want %t", begun, tt.want == "")
			}
			if c := conditionOf(d, v1alpha1.ConditionStalled); tt.want != "" && (c.Status != metav1.ConditionTrue || c.Reason != string(tt.want)) {
				t.Errorf("Stalled = %s %s (%s), want True %s", c.Status, c.Reason, c.Message, tt.want)
			}
		})
	}
}

func conditionOf(d Decision, kind string) metav1.Condition {
	for _, c := range d.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}

// TestNothingIsGranted holds each gate shut in turn in a cluster that would otherwise grant a slot at once.
func TestNothingIsGranted(t *testing.T) {
	tests := map[string]struct {
		shut func(*toyCluster, *World)
		want v1alpha1.Reason
	}{
		"while paused":                       {func(_ *toyCluster, w *World) { w.Cutover.Spec.State = v1alpha1.StatePaused }, v1alpha1.Paused},
		"after an abort":                     {func(_ *toyCluster, w *World) { w.Cutover.Spec.State = v1alpha1.StateAborted }, v1alpha1.Aborted},
		"while the fence has no config":      {func(_ *toyCluster, w *World) { w.NodeConfig.Intact = false }, v1alpha1.FenceOpen},
		"while the DaemonSet is unfenced":    {func(_ *toyCluster, w *World) { w.Legacy.Fenced = false }, v1alpha1.FenceOpen},
		"while a Legacy node lost its label": {func(_ *toyCluster, w *World) { w.Nodes[0].FenceLabel = false }, v1alpha1.FenceOpen},
		"with a canary larger than the set":  {func(_ *toyCluster, w *World) { *w.Cutover.Spec.Rollout.Canary = 9 }, v1alpha1.CanaryTooLarge},
		"in a time zone that does not exist": {func(_ *toyCluster, w *World) {
			w.Cutover.Spec.Rollout.Windows = []v1alpha1.Window{{Start: "00:00", Duration: metav1.Duration{Duration: time.Hour}, TimeZone: "Mars/Olympus"}}
		}, v1alpha1.WindowInvalid},
		"outside every window": {func(_ *toyCluster, w *World) {
			w.Cutover.Spec.Rollout.Windows = []v1alpha1.Window{{Start: "04:00", Duration: metav1.Duration{Duration: time.Hour}, TimeZone: "UTC"}}
		}, v1alpha1.OutsideWindow},
		"once the settings are gone": {func(_ *toyCluster, w *World) { w.Legacy.ExternalServiceCIDRs = nil }, v1alpha1.LegacySettings},
		"to a node that is NotReady": {func(_ *toyCluster, w *World) { notReady(w) }, v1alpha1.NodeNotReady},
		"to a node that others cordoned": {func(_ *toyCluster, w *World) {
			for i := range w.Nodes {
				w.Nodes[i].Cordoned = true
			}
		}, v1alpha1.CordonedByOthers},
		"to nodes that have restarted since they spoke": {func(_ *toyCluster, w *World) {
			for i := range w.Nodes {
				w.Nodes[i].BootID = "the next boot"
			}
		}, v1alpha1.AnswerRefused},
		"while too many are out of service": {func(_ *toyCluster, w *World) { w.Nodes[2].Cordoned = true }, v1alpha1.TooManyUnavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newToyCluster(3, baseSpec())
			for {
				c.tick()
				if d := Decide(c.world()); len(d.Status.Slots) == 1 {
					break
				}
				c.step(c.world())
			}
			w := c.world()
			tt.shut(c, w)
			d := Decide(w)
			if len(d.Status.Slots) != 0 {
				t.Fatalf("%s was granted a slot", d.Status.Slots[0].Node)
			}
			if len(d.Status.Waiting) == 0 || d.Status.Waiting[0].Reason != tt.want || d.Status.Waiting[0].Message == "" {
				t.Errorf("waiting = %+v, want the first to wait for %s", d.Status.Waiting, tt.want)
			}
		})
	}
}

func notReady(w *World) {
	for i := range w.Nodes {
		w.Nodes[i].Ready = false
	}
}

func TestWindows(t *testing.T) {
	at := func(s string) time.Time {
		x, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	night := v1alpha1.Window{Days: []v1alpha1.Weekday{"Monday"}, Start: "23:00", Duration: metav1.Duration{Duration: 3 * time.Hour}, TimeZone: "Europe/Berlin"}
	tests := map[string]struct {
		windows []v1alpha1.Window
		now     string
		open    bool
		next    string
	}{
		"none is always open":          {nil, "2026-03-02T12:00:00Z", true, ""},
		"before":                       {[]v1alpha1.Window{night}, "2026-03-02T21:59:59Z", false, "2026-03-02T22:00:00Z"},
		"at the start, in summer time": {[]v1alpha1.Window{night}, "2026-07-06T21:00:00Z", true, ""},
		"past midnight":                {[]v1alpha1.Window{night}, "2026-03-03T00:59:59Z", true, ""},
		"at the end":                   {[]v1alpha1.Window{night}, "2026-03-03T01:00:00Z", false, "2026-03-09T22:00:00Z"},
		"another day":                  {[]v1alpha1.Window{night}, "2026-03-04T22:30:00Z", false, "2026-03-09T22:00:00Z"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			open, next, err := windowsOpen(tt.windows, at(tt.now))
			if err != nil || open != tt.open {
				t.Fatalf("open = %t, %v, want %t", open, err, tt.open)
			}
			if tt.next != "" && !next.Equal(at(tt.next)) {
				t.Errorf("next = %s, want %s", next.UTC(), tt.next)
			}
		})
	}
}

// TestDecidingTwiceIsDecidingOnce holds the decider to being a function of the world.
func TestDecidingTwiceIsDecidingOnce(t *testing.T) {
	c := newToyCluster(4, baseSpec())
	for range 200 {
		c.tick()
		w := c.world()
		before := w.Cutover.DeepCopy()
		a, b := Decide(w), Decide(w)
		if len(a.Actions) != len(b.Actions) || !a.Wake.Equal(b.Wake) || len(a.Status.Slots) != len(b.Status.Slots) {
			t.Fatalf("two decisions on one world differ: %v and %v", a, b)
		}
		if before.Status.Phase != w.Cutover.Status.Phase || len(before.Status.Slots) != len(w.Cutover.Status.Slots) {
			t.Fatal("deciding changed the world")
		}
		c.step(c.world())
	}
}

// TestAtRestNothingIsWritten lets a finished and a stalled cutover be looked at again and again.
func TestAtRestNothingIsWritten(t *testing.T) {
	spec := baseSpec()
	spec.ApprovedPhases = spec.ApprovedPhases[:2]
	c := newToyCluster(3, spec)
	c.run(50)
	for range 20 {
		c.tick()
		before := c.cutover.Status.DeepCopy()
		d := Decide(c.world())
		if len(d.Actions) > 0 || len(d.Notes) > 0 {
			t.Fatalf("a cutover that waits for approval acts: %v %v", d.Actions, d.Notes)
		}
		if !equality.Semantic.DeepEqual(*before, d.Status) {
			t.Fatal("a cutover that waits for approval writes its status")
		}
		c.now = c.now.Add(time.Hour)
	}
}

// TestTheFenceIsMendedOnceTheLedgerSaysThatItIsOpen reverts each part of a fence that the ledger calls intact.
func TestTheFenceIsMendedOnceTheLedgerSaysThatItIsOpen(t *testing.T) {
	for reason, revert := range map[v1alpha1.Reason]func(*World){
		v1alpha1.FenceLabelLost:    func(w *World) { w.Nodes[0].FenceLabel = false },
		v1alpha1.FenceSelectorLost: func(w *World) { w.Legacy.Fenced = false },
		v1alpha1.FenceConfigLost:   func(w *World) { w.NodeConfig.Intact = false },
	} {
		t.Run(string(reason), func(t *testing.T) {
			c := newToyCluster(3, baseSpec())
			for {
				c.tick()
				if d := Decide(c.world()); conditionOf(d, v1alpha1.ConditionFenceIntact).Status == metav1.ConditionTrue {
					break
				}
				c.step(c.world())
			}
			c.cutover.Status = Decide(c.world()).Status
			mends := func() (Decision, int) {
				w := c.world()
				revert(w)
				d, n := Decide(w), 0
				for _, a := range d.Actions {
					switch a.(type) {
					case SetFenceLabel, FenceDaemonSet, WriteNodeConfig:
						n++
					}
				}
				return d, n
			}
			d, n := mends()
			if f := conditionOf(d, v1alpha1.ConditionFenceIntact); f.Status != metav1.ConditionFalse || f.Reason != string(reason) || n != 0 {
				t.Errorf("at first sight: FenceIntact = %s %s and %d changes, want False %s and none", f.Status, f.Reason, n, reason)
			}
			c.cutover.Status = d.Status
			if _, n := mends(); n != 1 {
				t.Errorf("once it was told: %d changes, want 1", n)
			}
		})
	}
}
