// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/vpccni"
)

// simulation is a cluster with two coordinators that both believe to lead. It holds the truth: the objects of the API
// server as they are now, the hosts behind them, and what the laws have to remember. Objects are never changed, only
// replaced: a pointer to one is its resourceVersion.
type simulation struct {
	setup setup
	bug   bug
	// now is the true time; tick counts everything that happens, so that "before" does not depend on any clock.
	now  time.Time
	tick int

	cutover  *v1alpha1.Cutover
	machines []*machine
	// objects are the NodeCutovers. They outlive their node until they are collected.
	objects []object
	legacy  Legacy
	config  NodeConfig
	// configVersion is the resourceVersion of the CiliumNodeConfig.
	configVersion int
	// wanted is how many nodes the autoscaling group of each zone wants.
	wanted [2]int
	made   int
	terms  int

	coordinators [2]*coordinator
	// flights are requests whose sender has given up on them and that may still arrive, one a coordinator.
	flights [2]*request

	laws   laws
	seen   *coverage
	broken string
	// telling makes the simulation write down what happens.
	telling bool
	story   []string
	gallery gallery
	// same says whether a status says nothing new.
	same func(a, b *v1alpha1.CutoverStatus) bool
	// forged are the true objects behind those that a bug has made look better.
	forged map[*v1alpha1.NodeCutover]*v1alpha1.NodeCutover
}

// machine is a node: what the API server shows of it, and the truth that only its agent can see.
type machine struct {
	Node
	version int // resourceVersion of the Node
	// was is what our cordon annotation says stood there before.
	was struct{ cordoned, excluded bool }

	role       v1alpha1.Role // the truth
	configured bool          // Cilium's pod has found the CiliumNodeConfig
	silent     bool          // its kubelet says nothing
	blocked    bool          // a disruption budget allows no eviction
	going      bool          // whoever replaces nodes is at it
	foreign    bool          // the cordon is somebody else's
	unlabelled bool          // somebody took the fence label away
	volume     bool          // a volume is attached
	surged     bool          // one more node was made for it
	health     health
	pods       []podOn
	born       int // the tick in which it joined
	roleSince  int // the tick in which it got its role
	podSince   int // the tick in which it got its pod of the VPC CNI
	// held is an answer that the agent has prepared and not sent.
	held *look
	// last is the last answer that was published; validated is when one last passed as a replacement's, and safeUntil is how
	// long one may be used that passed before a drain.
	last      look
	validated int
	safeUntil time.Time
}

type podOn struct {
	Pod
	going bool
}

// health is what an agent finds: a check that fails, one that it does not know, and a warning; 0 for none.
type health struct {
	fails, lacks uint8
	warns        bool
}

// ask is a question as the API server has it, with when and in which term it really arrived.
type ask struct {
	challenge  *v1alpha1.Challenge
	tick, term int
	at         time.Time
}

// look is one look of an agent at its host, with the question that it saw.
type look struct {
	ask    ask
	uid    types.UID
	boot   string
	role   v1alpha1.Role
	health health
}

// object is a NodeCutover with the last question on it.
type object struct {
	*v1alpha1.NodeCutover
	ask ask
}

// pace is how long the smallest thing takes. It is odd, so that no two questions are asked at the same microsecond.
const pace = 1137 * time.Microsecond

func newSimulation(u setup, b bug, g gallery) *simulation {
	overlay := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}
	s := &simulation{
		setup: u, bug: b, gallery: g, same: sameStatus, now: time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC), laws: laws{slots: map[types.UID]*granted{}},
		cutover: &v1alpha1.Cutover{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.CutoverName, Generation: 1}, Spec: u.spec()},
		legacy:  Legacy{Found: true, UID: "aws-node", Rollout: Rollout{Current: true}, Settings: vpccni.Settings{ExternalServiceCIDRs: overlay, ExcludeSNATCIDRs: overlay}},
	}
	if u[setFirst] == 0 {
		s.cutover.Status.Phase = v1alpha1.PhaseFenceLegacy
	}
	for i := range int(u[setNodes]) {
		zone := i % (int(u[setZones]) + 1)
		s.wanted[zone]++
		m := s.join(zone)
		m.role, m.LegacyPod, m.Ready, m.WasReady = v1alpha1.RoleLegacy, true, true, true
		if i > 0 && i <= int(u[setMoved]) && i < int(u[setNodes])-1 {
			// Rolled by an earlier Cutover; the VPC CNI is still everywhere, as it is not fenced any more.
			m.role, m.configured = v1alpha1.RoleOverlay, true
		}
		for j := range 1 + i%2 {
			m.pods = append(m.pods, podOn{Pod: Pod{Namespace: "shop", Name: m.Name, UID: types.UID(fmt.Sprint(m.UID, "-", j))}})
		}
	}
	s.legacyRollout()
	for i := range s.coordinators {
		c := &coordinator{id: i}
		s.coordinators[i] = c
		s.begin(c)
	}
	return s
}

// join makes a node of a zone. It has no CNI yet and is not Ready.
func (s *simulation) join(zone int) *machine {
	s.made++
	return s.joinAs(fmt.Sprintf("n%02d", s.made), zone)
}

func (s *simulation) joinAs(name string, zone int) *machine {
	uid := types.UID(fmt.Sprintf("%s-%d", name, s.tick))
	m := &machine{born: s.tick, version: 1, role: v1alpha1.RoleUnknown, Node: Node{
		Name: name, UID: uid, BootID: string(uid) + "-boot", Zone: zoneName(zone), Group: "workers", Created: s.now.Truncate(time.Second),
		Selected: true, ProviderID: "aws:///" + name,
	}}
	m.CiliumPods = []Pod{{Namespace: "kube-system", Name: "cilium-" + name, UID: types.UID(fmt.Sprintf("cilium-%s-%d", name, s.tick)), Created: s.now.Truncate(time.Second)}}
	s.resolve(m)
	s.machines = append(s.machines, m)
	return m
}

func zoneName(zone int) string { return string(rune('a' + zone)) }

// resolve is what the init container of Cilium's pod does, once in the life of the pod: it finds the CiliumNodeConfig, if
// that is there and the node has no fence label, and from then on Cilium writes its conflist. On a node of the VPC CNI that
// makes pods of both.
func (s *simulation) resolve(m *machine) {
	m.configured = s.setup[setShared] > 0 || s.config.Found && !m.FenceLabel
	if m.configured && s.setup[setShared] == 0 && m.role == v1alpha1.RoleLegacy {
		m.role, m.roleSince = v1alpha1.RoleMixed, s.tick
		s.say("%s is Mixed from now on: Cilium found its configuration there", m.Name)
	}
}

func (s *simulation) byUID(uid types.UID) *machine {
	for _, m := range s.machines {
		if m.UID == uid {
			return m
		}
	}
	return nil
}

func (s *simulation) byName(name string) *machine {
	for _, m := range s.machines {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// objectOf returns the NodeCutover of a name; nil if there is none.
func (s *simulation) objectOf(name string) *object {
	for i := range s.objects {
		if s.objects[i].Name == name {
			return &s.objects[i]
		}
	}
	return nil
}

// vanish removes a node. A coordinator that ran on it starts again elsewhere.
func (s *simulation) vanish(m *machine) {
	s.machines = slices.DeleteFunc(s.machines, func(o *machine) bool { return o == m })
	for _, c := range s.coordinators {
		if c.own == m.Name {
			s.begin(c)
		}
	}
}

// person edits the spec.
func (s *simulation) person(edit func(*v1alpha1.CutoverSpec)) {
	next := *s.cutover
	next.Spec.Waivers, next.Spec.Rollout.HoldOn = slices.Clone(next.Spec.Waivers), slices.Clone(next.Spec.Rollout.HoldOn)
	edit(&next.Spec)
	next.Generation++
	s.cutover = &next
}

func (s *simulation) say(format string, args ...any) {
	if s.telling {
		s.story = append(s.story, s.now.Format("15:04:05 ")+fmt.Sprintf(format, args...))
	}
}

// play lets a schedule happen: the mischief, then a calm in which everybody does what he should, until the cutover is
// over. It returns the law that was broken, or nothing.
func (s *simulation) play(events []event) string {
	for _, e := range events {
		if s.broken != "" {
			return s.broken
		}
		s.do(e)
	}
	if s.broken == "" {
		s.calm()
	}
	return s.broken
}
