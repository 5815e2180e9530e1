// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"time"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// ciliumAlive asks whether the owner of the datapath is alive now, and well. Pods go on working without it, and nothing new does.
// The stamp comes first: it is of the process itself, whereas a socket outlives whoever served it. Where the socket is not to be
// seen, the stamp is all there is, and the finding says so.
func ciliumAlive(s *scene) v1alpha1.Finding {
	l := s.f.Liveness
	age := l.Now - l.Stamp
	switch {
	case l.Sight == facts.Absent:
		return fail(v1alpha1.CiliumStopped, "Cilium has pinned no liveness on this node: its agent has not run since the boot; see whether its DaemonSet covers this node")
	case l.Sight != facts.Seen:
		return unknown(v1alpha1.CiliumLivenessUnreadable, "the liveness of Cilium's agent could not be read: %s", l.Detail)
	case l.Stamp == 0:
		return fail(v1alpha1.CiliumStopped, "Cilium's agent has never said that it lives: see its pod on this node")
	case age < 0:
		return unknown(v1alpha1.CiliumLivenessUnreadable, "the liveness of Cilium's agent is %s ahead of this host's clock, so it is not what it is taken for", -age)
	}
	evidence := []v1alpha1.Evidence{{Name: "age", Value: age.Milliseconds(), Unit: "milliseconds"}}
	if age > facts.MaxSilence {
		return with(fail(v1alpha1.CiliumStopped, "Cilium's agent last said %s ago that it lives, and should every second: see its pod on this node", age.Round(time.Second)), evidence...)
	}
	status := s.ciliumStatus()
	if status.Verdict != v1alpha1.VerdictPass {
		return with(status, evidence...)
	}
	health, numbers := s.ciliumHealth()
	return with(worse(status, health), append(evidence, numbers...)...)
}

// ciliumStatus is what the agent says of itself.
func (s *scene) ciliumStatus() v1alpha1.Finding {
	c := s.f.Status
	switch {
	case c.Sight == facts.NotLooked, c.Sight == facts.Absent, c.NotAllowed:
		why := c.Detail
		if why == "" {
			why = "nobody looked"
		}
		return pass(v1alpha1.AsWanted, "Cilium's agent stamped less than %s ago that it lives; its socket was not asked (%s), so this rests on the stamp alone", facts.MaxSilence, why)
	case c.Sight != facts.Seen:
		return unknown(v1alpha1.CiliumSilent, "Cilium's agent stamps that it lives and does not answer at its socket: %s; it is starting, or hangs: look again, and see the log of its pod if it stays so", c.Detail)
	case c.State == "Failure":
		return fail(v1alpha1.CiliumUnwell, "Cilium's agent lives and says that it fails: %s", c.Message)
	case c.State != "Ok":
		return warn(v1alpha1.CiliumUnwell, "Cilium's agent lives and says that it is in state %s: %s", c.State, c.Message)
	}
	return pass(v1alpha1.AsWanted, "Cilium's agent stamped less than %s ago that it lives, answers at its socket and is well (%s, MTU %d, in the tunnel %d)", facts.MaxSilence, c.Message, c.DeviceMTU, c.RouteMTU)
}

// roundsOld is how many rounds old the probes of Cilium's may be: of the one that runs, nothing is known yet of some nodes.
const roundsOld = 3

// ciliumHealth is what Cilium's own probes have found: not more than a warning, because on a node that has just joined they are of
// its first seconds, and in a large cluster the next ones come minutes later.
func (s *scene) ciliumHealth() (v1alpha1.Finding, []v1alpha1.Evidence) {
	h := s.f.Health
	nothing := v1alpha1.Finding{}
	if h.Sight != facts.Seen || h.At.IsZero() || s.f.At.Sub(h.At) > roundsOld*max(h.Interval, time.Minute) {
		return nothing, nil
	}
	evidence := []v1alpha1.Evidence{
		number("hosts_probed", h.Hosts, "nodes"), number("hosts_reached", h.HostsReached, "nodes"),
		number("tunnels_probed", h.Endpoints, "nodes"), number("tunnels_reached", h.EndpointsReached, "nodes"),
	}
	if h.HostsReached == 0 || h.Endpoints == 0 || h.EndpointsReached > 0 {
		return nothing, evidence
	}
	ago := fmt.Sprintf("%s ago", s.f.At.Sub(h.At).Round(time.Second))
	return warn(v1alpha1.CiliumProbesFail, "Cilium's own probes, begun %s, reached %d of %d other nodes, and through the tunnel none of %d: see whether security groups let the tunnel's UDP port through between nodes",
		ago, h.HostsReached, h.Hosts, h.Endpoints), evidence
}
