// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/bpf/tunnelmeter"
)

// Measuring is when the tunnel meter is attached.
type Measuring string

// The choices.
const (
	WhileAsked Measuring = "WhileAsked" // from a question of the coordinator's on, and for a while after it
	Always     Measuring = "Always"
	Never      Measuring = "Never"
)

const (
	// linger is how long the meter stays after the last question has expired: long enough for the next one of the same slot,
	// behind a deregistration delay or a soak, to find more than its first moment.
	linger = 10 * time.Minute
	// window is over how much of the past packets in pieces count, at least; at most it is twice as much and a look more. What was
	// mended before is not held against a node for longer.
	window = time.Minute
	// meterMemory is what the kernel may allocate for the meter, in bytes. It counts against the container's limit.
	meterMemory = 96 << 20
	// leastPeers are held also by a node that knows none yet.
	leastPeers = 256
)

// Meter is the tunnel meter as the loop needs it.
type Meter interface {
	Ensure() ([]tunnelmeter.Placement, error)
	Read() (tunnelmeter.Reading, error)
	Close() error
}

// StartMeter attaches the real one.
func StartMeter(o tunnelmeter.Options) (Meter, error) { return tunnelmeter.Start(o) }

// measurement holds the tunnel meter while it is wanted.
type measurement struct {
	start func(tunnelmeter.Options) (Meter, error)
	log   *slog.Logger
	count func(tunnelmeter.Reading) // what is new since the last look

	meter   Meter
	options tunnelmeter.Options // with which it was started
	// late is where the next window begins, early where the present one does.
	early, late, last reading
	complaint         string // what was logged last
}

// reading is what the meter had counted at some time.
type reading struct {
	at time.Time
	tunnelmeter.Reading
}

// look attaches the meter if it is wanted and not there, puts it first again, and reads it. What goes wrong is in the fact.
func (m *measurement) look(f *facts.Facts, wanted bool) facts.Meter {
	if !wanted {
		m.close()
		return facts.Meter{}
	}
	out, err := m.read(f)
	if err == nil {
		m.complaint = ""
		return out
	}
	if err.Error() != m.complaint {
		m.complaint = err.Error()
		m.log.Warn("the tunnel is not measured", "error", err)
	}
	m.close()
	missing := new(tunnelmeter.MissingCapabilityError)
	return facts.Meter{Look: facts.Look{Sight: facts.Failed, Detail: err.Error()}, NotAllowed: errors.As(err, &missing)}
}

func (m *measurement) read(f *facts.Facts) (facts.Meter, error) {
	nic, why := check.Underlay(f)
	if why != "" {
		return facts.Meter{}, errors.New("finding the NIC under the tunnel: " + why)
	}
	options := tunnelmeter.Options{Devices: []string{nic.Name}, Port: uint16(f.Settings.TunnelPort)}
	if f.Settings.Sight != facts.Seen {
		options.Port = m.options.Port // as it was, or the meter's own default
	}
	if m.meter != nil && (!slices.Equal(options.Devices, m.options.Devices) || options.Port != m.options.Port) {
		m.close()
	}
	if m.meter == nil {
		if err := m.attach(options, f); err != nil {
			return facts.Meter{}, err
		}
	}
	placements, err := m.meter.Ensure()
	if err != nil {
		return facts.Meter{}, fmt.Errorf("putting the tunnel meter before other programs: %w", err)
	}
	now := reading{at: time.Now()}
	if now.Reading, err = m.meter.Read(); err != nil {
		return facts.Meter{}, err
	}
	for _, p := range placements {
		switch {
		case p.State == tunnelmeter.NoDevice:
			return facts.Meter{}, errors.New("looking for the tunnel meter: " + p.Device + " is gone")
		case p.State != tunnelmeter.First: // it was not; since when, nobody knows
			m.log.Info("the tunnel meter was not first and is again", "placement", p.String())
			m.early, m.late = now, now
		}
	}
	m.count(now.Since(m.last.Reading))
	m.last = now
	if now.at.Sub(m.late.at) >= window {
		m.early, m.late = m.late, now
	}
	return facts.Meter{
		Look: facts.Look{Sight: facts.Seen}, Device: nic.Name, Total: now.Reading,
		Recent: now.Since(m.early.Reading), Window: now.at.Sub(m.early.at),
	}, nil
}

// attach starts a meter that holds the peers that this node knows, and some more.
func (m *measurement) attach(o tunnelmeter.Options, f *facts.Facts) error {
	want := max(2*check.TunnelEnds(f), leastPeers)
	fits, err := tunnelmeter.Fit(want, meterMemory)
	if err != nil {
		return err
	}
	if o.Peers = fits; fits < leastPeers {
		return fmt.Errorf("attaching the tunnel meter: its counters, of each CPU for each peer, would take more than %d MiB on this machine; nothing is measured here", meterMemory>>20)
	}
	if m.meter, err = m.start(o); err != nil {
		m.meter = nil // no typed nil
		return err
	}
	m.options = o
	began := reading{at: time.Now()}
	m.early, m.late, m.last = began, began, began
	m.log.Info("the tunnel meter is attached", "device", o.Devices[0], "port", o.Port, "peers", o.Peers)
	return nil
}

// close detaches the meter, if it is attached.
func (m *measurement) close() {
	if m.meter == nil {
		return
	}
	if err := m.meter.Close(); err != nil {
		m.log.Warn("the tunnel meter did not go as it should", "error", err)
	}
	m.meter = nil
	m.log.Info("the tunnel meter is detached")
}
