// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"bytes"
	"encoding/json"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// doubt are the writes of which the log does not say whether they were done. What follows them tells.
type doubt struct {
	// ledger that may have been written over that of the books, and by which request; nil for none.
	ledger *v1alpha1.Cutover
	by     *Event
	// trusting are the requests that only this ledger allows.
	trusting []*Event
	// cordons are the nodes that may be cordoned, until a write shows them.
	cordons map[string]bool
}

// mayHaveBeen keeps a write in mind that may have been done.
func (o *Oracle) mayHaveBeen(e *Event) {
	switch e.What() {
	case "cutovers/status":
		var asked v1alpha1.Cutover
		if json.Unmarshal(e.RequestObject, &asked) == nil {
			o.settle(e, false)
			o.doubt.ledger, o.doubt.by = &asked, e
		}
	case "nodes":
		if bytes.Contains(e.RequestObject, []byte(`"unschedulable":true`)) {
			o.doubt.cordons[e.ObjectRef.Name] = true
		}
	}
}

// allowed says whether the ledger allows a request. If only one allows it that may have been written, the request is remembered.
func (o *Oracle) allowed(e *Event, slot types.UID, by func(*v1alpha1.Slot) bool) bool {
	if by(o.cutover.Status.SlotOf(slot)) {
		return true
	}
	if o.doubt.ledger == nil || !by(o.doubt.ledger.Status.SlotOf(slot)) {
		return false
	}
	o.doubt.trusting = append(o.doubt.trusting, e)
	return true
}

// settle enters the ledger that may have been written, by the version that the next one is written over: compare-and-swap
// leaves no third way. If it was not, whoever relied on it is blamed, provided that the next one was written.
func (o *Oracle) settle(next *Event, done bool) {
	d := o.doubt
	o.doubt = doubt{cordons: d.cordons}
	if d.ledger == nil || next.What() != "cutovers/status" {
		return // a write of somebody else shows the ledger as it is
	}
	var over v1alpha1.Cutover
	switch {
	case json.Unmarshal(next.RequestObject, &over) == nil && version(&over) > version(&o.cutover):
		d.ledger.ResourceVersion = over.ResourceVersion
		o.enter(d.by, *d.ledger)
	case done:
		for _, e := range d.trusting {
			o.violate(e, "it rests on a ledger that was not written")
		}
	}
}

func held(s *v1alpha1.Slot) bool  { return s != nil }
func ended(s *v1alpha1.Slot) bool { return s == nil }
func evicting(s *v1alpha1.Slot) bool {
	return s != nil && slices.Contains([]v1alpha1.Step{v1alpha1.StepDeregister, v1alpha1.StepConfirm, v1alpha1.StepDrain}, s.Step)
}
