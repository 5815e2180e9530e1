// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

const (
	// maxWaiting is how many waiting nodes the status names.
	maxWaiting = 32
	// lookahead is how many nodes are asked beyond the first that has not answered yet; with more slots free than that, one for
	// each of them.
	lookahead = 2
	// maxUnsafe is how many unsafe nodes are passed over, and asked again whenever their answers expire, in search of a safe
	// one. It bounds what a cluster in which nothing is safe costs: as many writes every two minutes, twice.
	maxUnsafe = maxWaiting
)

// rollNodes hands out slots and is done when every selected node shows role Overlay.
func (d *decider) rollNodes() state {
	d.status.Waiting = nil
	switch {
	case d.w.SelectorErr != nil:
		return stalled(v1alpha1.SelectorInvalid, "spec.nodes.selector cannot be parsed, so no node is selected: %v", d.w.SelectorErr)
	case d.status.Nodes.Total == 0:
		return stalled(v1alpha1.SelectorInvalid, "spec.nodes.selector selects no node, and a roll of no node proves nothing: correct it")
	}
	next := d.candidates()
	if len(next) == 0 && len(d.status.Slots) == 0 {
		if n := d.unseen(); n != "" {
			if old := d.rebooted(); old != "" {
				return going(v1alpha1.AnswerRefused, "%s", old)
			}
			return going(v1alpha1.NoAnswer, "the agent on %s has not reported which CNI owns its pods", n)
		}
		return passed()
	}
	if s := d.mayGrant(); s.reason != "" {
		d.waiting(next, s.reason, s.message)
		return s
	}
	d.grant(next)
	d.optedOut()
	d.rebooted()
	if held := d.heldSlots(); held > 0 {
		return going(v1alpha1.Progressing, "%d of %d nodes are on the overlay; %d slots are held", d.status.Nodes.Overlay, d.status.Nodes.Total, held)
	}
	return going(v1alpha1.Progressing, "%d of %d nodes are on the overlay", d.status.Nodes.Overlay, d.status.Nodes.Total)
}

// candidates returns the nodes that have to be rolled and are in no slot, in the order in which they are.
func (d *decider) candidates() []*Node {
	var out []*Node
	taken := parts(d.status.Slots)
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		role := n.Role()
		if !n.Selected || n.Deleting || n.OptedOut || (role != v1alpha1.RoleLegacy && role != v1alpha1.RoleMixed) || taken[n.UID] {
			continue
		}
		out = append(out, n)
	}
	slices.SortStableFunc(out, func(a, b *Node) int {
		byZone := 0
		if d.spec.Rollout.Order == v1alpha1.OrderZone {
			byZone = strings.Compare(a.Zone, b.Zone)
		}
		return cmp.Or(d.rank(a)-d.rank(b), byZone, strings.Compare(a.Name, b.Name))
	})
	return out
}

// parts are the nodes of slots, both of each.
func parts(slots []v1alpha1.Slot) map[types.UID]bool {
	if len(slots) == 0 {
		return nil
	}
	p := make(map[types.UID]bool, 2*len(slots))
	for i := range slots {
		p[slots[i].NodeUID], p[slots[i].ReplacementUID] = true, true
	}
	return p
}

// rank orders nodes: Mixed ones first, the coordinator's own last whatever it is, the others as rollout.order says.
func (d *decider) rank(n *Node) int {
	switch {
	case n.Name == d.w.OwnNode:
		return rankOwn
	case n.Role() == v1alpha1.RoleMixed:
		return rankMixed
	}
	return rankOther
}

const (
	rankMixed = iota
	rankOther
	rankOwn
)

// unseen returns a selected node that nobody has looked at; what is not known is not done.
func (d *decider) unseen() string {
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		if n.Selected && !n.OptedOut && n.Role() != v1alpha1.RoleOverlay {
			return n.Name
		}
	}
	return ""
}

// mayGrant returns why no slot may be granted at all now, or a state without a reason.
func (d *decider) mayGrant() state {
	r := d.spec.Rollout
	switch {
	case d.spec.State == v1alpha1.StatePaused:
		return stalled(v1alpha1.Paused, "spec.state is Paused: slots that were granted finish, none is granted")
	case d.spec.State == v1alpha1.StateAborted:
		return stalled(v1alpha1.Aborted, "spec.state is Aborted: slots that were granted finish, none is granted")
	case !d.fence.intact:
		return going(v1alpha1.FenceOpen, "no slot is granted while the fence is open: %s", d.fence.message)
	case r.Canary != nil && d.status.Rolled < *r.Canary && *r.Canary > d.status.Nodes.Total:
		return stalled(v1alpha1.CanaryTooLarge, "rollout.canary is %d, but only %d nodes are selected: lower it", *r.Canary, d.status.Nodes.Total)
	case d.heldSlots() >= int(r.FailureBudget):
		return going(v1alpha1.BudgetSpent, "%d slots are held and rollout.failureBudget is %d: %s", d.heldSlots(), r.FailureBudget, d.firstHeld())
	}
	if reason, message := d.hybridSettings(); reason != "" {
		return stalled(reason, "%s; or name %s in spec.waivers", message, reason)
	}
	open, next, err := windowsOpen(r.Windows, d.w.Now)
	switch {
	case err != nil:
		return stalled(v1alpha1.WindowInvalid, "rollout.windows: %v", err)
	case !open:
		d.wakeAt(next)
		return going(v1alpha1.OutsideWindow, "no window is open; the next one opens at %s", next.UTC().Format("2006-01-02T15:04Z"))
	}
	return state{}
}

func (d *decider) heldSlots() int {
	n := 0
	for _, s := range d.status.Slots {
		if s.HeldSince != nil {
			n++
		}
	}
	return n
}

func (d *decider) firstHeld() string {
	for _, s := range d.status.Slots {
		if s.HeldSince != nil {
			return fmt.Sprintf("%s is held in %s (%s): %s", s.Node, s.Step, s.Reason, s.Message)
		}
	}
	return ""
}

// grant hands out slots to the first nodes that are safe, as far as the limits allow, and asks the next ones.
func (d *decider) grant(next []*Node) {
	mixed := d.anyMixed(next)
	out, example := d.unavailable()
	unanswered, unsafe := 0, 0
	ahead := max(lookahead, int(d.spec.Rollout.MaxConcurrent)-len(d.status.Slots)-1)
	for i, n := range next {
		if reason, message := d.unfit(n, next[i:], mixed); reason != "" {
			d.wait(n, reason, message)
			continue
		}
		reason, message := d.full(n, out, example)
		if reason != "" || unanswered > ahead || unsafe >= maxUnsafe {
			if reason == "" {
				reason, message = v1alpha1.SlotsTaken, "other nodes come first"
			}
			d.wait(n, reason, message)
			continue
		}
		a := d.ask(n, question{Purpose: v1alpha1.PurposeDrain, Role: n.Role()}, true)
		switch {
		case a.safe:
			d.grantTo(n, a)
			out, example = out+1, n.Name
		case a.fresh:
			unanswered++
			d.stillWaits(n)
		default:
			unsafe++
			d.wait(n, a.reason, a.message)
		}
	}
}

// anyMixed says whether Mixed nodes are left among candidates: they come before all others.
func (d *decider) anyMixed(next []*Node) bool {
	return len(next) > 0 && d.rank(next[0]) == rankMixed
}

// stillWaits repeats what the last answer said of a node that has only just been asked again.
func (d *decider) stillWaits(n *Node) {
	for _, b := range d.w.Cutover.Status.Waiting {
		if b.Node == n.Name && answered(b.Reason) {
			d.wait(n, b.Reason, b.Message)
		}
	}
}

// optedOut names the nodes that people keep out of the roll, and tells of each once.
func (d *decider) optedOut() {
	before := d.w.Cutover.Status.Waiting
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		if !n.Selected || !n.OptedOut || n.Role() == v1alpha1.RoleOverlay || len(d.status.Waiting) == maxWaiting {
			continue
		}
		d.wait(n, v1alpha1.OptedOut, "kept out of the roll by its annotation: "+n.OptOut)
		if !slices.ContainsFunc(before, func(w v1alpha1.Waiting) bool { return w.Node == n.Name && w.Reason == v1alpha1.OptedOut }) {
			d.note(n.Name, false, v1alpha1.OptedOut, "Skip", "%s is kept out of the roll by its annotation: %s", n.Name, n.OptOut)
		}
	}
}

// rebooted names the nodes whose agents have not spoken since a restart: until they do, nobody knows whose pods those nodes
// have, so they are no candidates. It returns what it said of the first.
func (d *decider) rebooted() (first string) {
	taken := parts(d.status.Slots)
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		if !n.Selected || n.OptedOut || n.Deleting || taken[n.UID] || !n.restarted() {
			continue
		}
		message := fmt.Sprintf("the report of %s is of boot %q, but the node runs boot %q: its agent has not reported since; see its pod", n.Name, n.Cutover.Status.BootID, n.BootID)
		d.wait(n, v1alpha1.AnswerRefused, message)
		if first == "" {
			first = message
		}
	}
	return first
}

// unfit says why a node may not have a slot whatever the limits are.
func (d *decider) unfit(n *Node, rest []*Node, mixed bool) (v1alpha1.Reason, string) {
	switch {
	case !n.Ready:
		return v1alpha1.NodeNotReady, n.Name + " is NotReady: mend or remove it; what is out of service already is not drained"
	case n.Cordoned && n.CordonedBy == "":
		return v1alpha1.CordonedByOthers, n.Name + " was cordoned by somebody else: uncordon it when it may be rolled"
	case d.held(n.UID) || n.marked() != "" || releaseAsked(n):
		return v1alpha1.SlotsTaken, "the last slot of " + n.Name + " has only just ended; what it left on the node is undone first"
	case mixed && n.Role() != v1alpha1.RoleMixed:
		return v1alpha1.MixedFirst, "Mixed nodes are replaced first"
	case n.Name == d.w.OwnNode && (len(rest) > 1 || len(d.status.Slots) > 0):
		return v1alpha1.CoordinatorLast, "the coordinator runs here; its node comes last"
	}
	return "", ""
}

// full says which limit keeps a node from a slot while out nodes are out of service, one of them the example.
func (d *decider) full(n *Node, out int, example string) (v1alpha1.Reason, string) {
	r := d.spec.Rollout
	slots := len(d.status.Slots)
	if r.Canary != nil && d.status.Rolled < *r.Canary && slots >= 1 {
		return v1alpha1.CanaryRunning, fmt.Sprintf("%d of %d canaries are done", d.status.Rolled, *r.Canary)
	}
	if slots >= int(r.MaxConcurrent) {
		return v1alpha1.SlotsTaken, fmt.Sprintf("rollout.maxConcurrent is %d", r.MaxConcurrent)
	}
	if r.MaxConcurrentPerZone != nil {
		inZone := 0
		for _, s := range d.status.Slots {
			if s.Zone == n.Zone {
				inZone++
			}
		}
		if inZone >= int(*r.MaxConcurrentPerZone) {
			return v1alpha1.ZoneSlotsTaken, fmt.Sprintf("rollout.maxConcurrentPerZone is %d in zone %q", *r.MaxConcurrentPerZone, n.Zone)
		}
	}
	if out >= int(r.MaxUnavailable) {
		return v1alpha1.TooManyUnavailable, fmt.Sprintf("%d nodes are out of service (%s) and rollout.maxUnavailable is %d", out, example, r.MaxUnavailable)
	}
	return "", ""
}

// unavailable counts slots and every other node that was Ready once and is not, or is cordoned. A joining node that was
// never Ready takes nothing away, and both nodes of a slot count once.
func (d *decider) unavailable() (count int, example string) {
	count = len(d.status.Slots)
	if count > 0 {
		example = d.status.Slots[0].Node
	}
	taken := parts(d.status.Slots)
	for i := range d.w.Nodes {
		n := &d.w.Nodes[i]
		if taken[n.UID] || !((n.WasReady && !n.Ready) || n.Cordoned) {
			continue
		}
		count++
		if example == "" {
			example = n.Name
		}
	}
	return count, example
}

// grantTo writes a slot into the ledger.
func (d *decider) grantTo(n *Node, a answer) {
	now := metav1.NewMicroTime(d.w.Now)
	if !n.SafeShown {
		d.act(SetSafe{Node: n.Name, UID: n.UID, Safe: true, Message: "the agent's answer allows a drain: " + string(a.reason)})
	}
	slot := v1alpha1.Slot{
		NodeUID: n.UID, Node: n.Name, ProviderID: n.ProviderID, Zone: n.Zone, Group: n.Group,
		Step: firstStep(d.spec.Rollout.Surge), Since: now, GrantedAt: now, Holder: d.w.Holder, Generation: d.w.Cutover.Generation,
		Terms: v1alpha1.Terms{Surge: d.spec.Rollout.Surge, Soak: d.spec.Rollout.Soak, Drain: d.spec.Rollout.Drain, Replacement: d.spec.Replacement},
	}
	p := d.look(&slot, &v1alpha1.Slot{}) // what it will wait for: that need not be written a second time
	slot.Reason, slot.Message = p.reason, p.message
	d.status.Slots = append(d.status.Slots, slot)
	d.note(n.Name, false, a.reason, "Grant", "%s gets a slot: %s", n.Name, orElse(a.message, "its agent passes"))
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (d *decider) wait(n *Node, reason v1alpha1.Reason, message string) {
	if len(d.status.Waiting) < maxWaiting {
		d.status.Waiting = append(d.status.Waiting, v1alpha1.Waiting{Node: n.Name, Reason: reason, Message: Clip(message)})
	}
}

func (d *decider) waiting(nodes []*Node, reason v1alpha1.Reason, message string) {
	for _, n := range nodes {
		d.wait(n, reason, message)
	}
}
