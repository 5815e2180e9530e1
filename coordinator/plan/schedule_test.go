// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// schedule is one interleaving of two coordinators with the world around them: where it begins, and what happens, in
// order. What an event means is settled when it happens, so whatever is left of a schedule after others were taken out is
// a schedule too.
type schedule struct {
	setup  setup
	events []event
}

// event is one thing that happens, to one of the nodes or by one of the coordinators.
type event struct {
	kind kind
	// who is the node or the coordinator, counted round.
	who uint8
	arg uint8
}

// setup is what a schedule begins with: small numbers, each of which can be made simpler by making it smaller.
type setup [setupSize]uint8

// The numbers of a setup.
const (
	setNodes       = iota // nodes, 2 to 5
	setMoved              // of these, nodes that are on the overlay already
	setZones              // zones less one
	setConcurrent         // maxConcurrent less one
	setUnavailable        // maxUnavailable less one
	setPerZone            // maxConcurrentPerZone, 0 for none
	setBudget             // failureBudget less one
	setCanary             // canary, 0 for none
	setSurge              // surge
	setShared             // install mode Shared
	setSoak               // soak in units of 10 s
	setDelay              // deregistrationDelay in units of 10 s
	setFirst              // begins with the first phase, which is a person's; otherwise with the coordinator's first
	setupSize
)

// bounds are the least and the greatest value of each number of a setup.
func bounds() [setupSize][2]uint8 {
	return [setupSize][2]uint8{
		setNodes: {2, 5}, setMoved: {0, 3}, setZones: {0, 1}, setConcurrent: {0, 2}, setUnavailable: {0, 2}, setPerZone: {0, 1},
		setBudget: {0, 2}, setCanary: {0, 1}, setSurge: {0, 1}, setShared: {0, 1}, setSoak: {0, 2}, setDelay: {0, 2}, setFirst: {0, 1},
	}
}

// spec is the spec of a setup.
func (u setup) spec() v1alpha1.CutoverSpec {
	s := baseSpec()
	r := &s.Rollout
	r.MaxConcurrent, r.MaxUnavailable, r.FailureBudget = 1+int32(u[setConcurrent]), 1+int32(u[setUnavailable]), 1+int32(u[setBudget])
	r.MaxConcurrentPerZone, r.Canary = nil, nil
	if n := int32(u[setPerZone]); n > 0 {
		r.MaxConcurrentPerZone = &n
	}
	if n := int32(u[setCanary]); n > 0 {
		r.Canary = &n
	}
	r.Surge = u[setSurge] > 0
	r.Soak = metav1.Duration{Duration: 10 * time.Second * time.Duration(u[setSoak])}
	r.Drain.DeregistrationDelay = metav1.Duration{Duration: 10 * time.Second * time.Duration(u[setDelay])}
	if u[setShared] > 0 {
		s.Cilium.Install = v1alpha1.InstallShared
	}
	return s
}

// deck is the events as often as they are drawn: most of a schedule is ordinary life, or nothing would ever get anywhere.
// Those of a storm are drawn more often.
func deck(storm ...kind) []kind {
	var d []kind
	for _, k := range storm {
		for range 8 {
			d = append(d, k)
		}
	}
	for k, n := range weights() {
		for range n {
			d = append(d, kind(k))
		}
	}
	return d
}

// draw makes the schedule of a seed.
func draw(seed uint64, deck []kind, events []event) schedule {
	rng := rand.New(rand.NewPCG(seed, 0x5eed))
	var s schedule
	for i, b := range bounds() {
		s.setup[i] = b[0] + uint8(rng.UintN(uint(b[1]-b[0])+1))
	}
	// Small clusters most of the time: what two nodes cannot show, five rarely can.
	if rng.UintN(2) == 0 {
		s.setup[setNodes] = 2 + uint8(rng.UintN(2))
	}
	if s.setup[setFirst] > 0 && rng.UintN(4) > 0 {
		s.setup[setFirst] = 0
	}
	s.events = events[:0]
	for range 40 + rng.UintN(50) {
		r := rng.Uint64()
		s.events = append(s.events, event{kind: deck[r%uint64(len(deck))], who: uint8(r >> 40), arg: uint8(r >> 48)})
	}
	return s
}

// String is a schedule as -schedule takes it.
func (s schedule) String() string {
	b := append([]byte{}, s.setup[:]...)
	for _, e := range s.events {
		b = append(b, byte(e.kind), e.who, e.arg)
	}
	return hex.EncodeToString(b)
}

// parseSchedule is the inverse of String.
func parseSchedule(text string) (schedule, error) {
	var s schedule
	b, err := hex.DecodeString(text)
	if err != nil || len(b) < setupSize || (len(b)-setupSize)%3 != 0 {
		return s, fmt.Errorf("decoding schedule %q: it has to be the text that a failing test printed: %w", text, err)
	}
	copy(s.setup[:], b)
	for b = b[setupSize:]; len(b) > 0; b = b[3:] {
		if kind(b[0]) >= kinds {
			return s, fmt.Errorf("decoding schedule %q: event %d is not known", text, b[0])
		}
		s.events = append(s.events, event{kind(b[0]), b[1], b[2]})
	}
	return s, nil
}
