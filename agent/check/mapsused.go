// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

// attachedProgram is a program that this mode needs, at its place.
type attachedProgram struct {
	at string
	id uint32
}

// mapsUsed asks whether the attached programs use the maps that are pinned now: what is judged of a pinned map is otherwise no evidence of
// what happens to packets. Cilium makes its ipcache anew whenever its agent starts, and its programs keep the one before until they
// are loaded anew. A program that uses no map of a name is no fault: which use which is Cilium's to say. Asking takes CAP_SYS_ADMIN, so
// nobody has to; without it the other evidence stands alone, and the sentence names it.
func (s *scene) mapsUsed(m mode, attached []attachedProgram) (v1alpha1.Finding, []v1alpha1.Evidence) {
	u := s.f.MapUses
	switch {
	case u.Sight == facts.NotLooked:
		return pass(v1alpha1.AsWanted, "that they use the maps pinned now is not proved, and rests on the paths that MTU proves and on what Drops counts: "+
			"it is asked with the chart's agent.mapUses, which takes CAP_SYS_ADMIN, and while the coordinator asks"), nil
	case u.Sight != facts.Seen:
		return unknown(v1alpha1.MapUsesUnknown, "the programs are attached, and which maps they use was to be asked and could not be: %s", u.Detail), nil
	}
	var old []string
	asked, users := 0, map[string]int{}
	for _, p := range attached {
		uses, ok := u.By[p.id]
		if !ok {
			continue // replaced just now
		}
		asked++
		for _, pin := range uses.Now {
			users[pin]++
		}
		if len(uses.Old) > 0 {
			old = append(old, fmt.Sprintf("%s (%s)", p.at, strings.Join(uses.Old, ", ")))
		}
	}
	evidence := []v1alpha1.Evidence{number("asked_for_maps", asked, "programs"), number("old_maps", len(old), "programs")}
	if len(old) > 0 {
		return fail(v1alpha1.ProgramUsesOldMap, "what Cilium writes into its pinned maps does not reach these programs, which use maps that were pinned before: %s; %s", joined(old), s.whyOld()), evidence
	}
	needed := []string{ciliummap.IPCachePin, ciliummap.EndpointsPin}
	if m.sockets {
		needed = append(needed, ciliummap.ServicesPin, ciliummap.BackendsPin)
	}
	if i := slices.IndexFunc(needed, func(pin string) bool { return users[pin] == 0 }); i >= 0 {
		return unknown(v1alpha1.MapUsesUnknown, "none of the %d attached programs, nor any that they call, was seen to use the map that is pinned as %s, so what is judged of it says nothing of packets; "+
			"if Cilium's agent has just started, look again", asked, needed[i]), evidence
	}
	return pass(v1alpha1.AsWanted, "they use the maps pinned now, %d of them %s and %d %s, themselves or by tail calls",
		users[ciliummap.IPCachePin], ciliummap.IPCachePin, users[ciliummap.EndpointsPin], ciliummap.EndpointsPin), evidence
}

// whyOld tells an agent that is about to load its programs from one that will not.
func (s *scene) whyOld() string {
	switch l := s.f.Liveness; {
	case l.Sight != facts.Seen:
		return "see the log of Cilium's agent on this node"
	case l.Stamp == 0 || l.Now-l.Stamp > facts.MaxSilence:
		return "Cilium's agent is not alive, so nobody will load them anew: see its pod on this node"
	}
	return "Cilium's agent is alive and loads them anew some seconds after it has started, so look again; if it stays so, restart it"
}
