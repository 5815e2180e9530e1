// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package density

import (
	"cmp"
	"slices"
	"strings"
)

// Report is the arithmetic of a cluster: its nodes, its node groups, and all of it.
type Report struct {
	VPCCNI  VPCCNI  `json:"vpcCNI"`
	Target  Target  `json:"target"`
	Nodes   []Row   `json:"nodes"`
	Groups  []Total `json:"groups"`
	Cluster Total   `json:"cluster"`
	EC2     EC2     `json:"ec2,omitzero"`
	// Unknown are the instance types that neither EC2 nor the table knows, of nodes that the VPC CNI serves.
	Unknown []string `json:"unknownInstanceTypes,omitempty"`
	// Differences are where EC2 and the table disagree.
	Differences []Difference `json:"differences,omitempty"`
	Advice      []Advice     `json:"advice"`
}

// Total sums nodes up.
type Total struct {
	Group   string   `json:"group"`
	Types   []string `json:"instanceTypes"`
	Nodes   int      `json:"nodes"`
	Pods    int      `json:"pods"`
	Now     int      `json:"now"`
	AsIs    int      `json:"afterAsIs"`
	After   int      `json:"after"`
	AfterBy Bound    `json:"afterBy"`
	InUse   int      `json:"vpcAddressesInUse"`
	Held    int      `json:"vpcAddressesHeld"`
}

// Judge computes a report. families says for whom advice is wanted.
func Judge(nodes []Node, e EC2, c VPCCNI, t Target, families ...Family) Report {
	r := Report{VPCCNI: c, Target: t, Nodes: make([]Row, 0, len(nodes)), Groups: []Total{}, EC2: e, Differences: e.differences(), Advice: adviceFor(t.MaxPods, families)}
	means := meansOf(nodes)
	for i := range nodes {
		row := judge(&nodes[i], &e, c, t, means.of(nodes[i].Group))
		if !row.Known && !row.moved() {
			r.Unknown = append(r.Unknown, cmp.Or(row.Type, "(no instance type: "+row.Name+")"))
		}
		r.Nodes = append(r.Nodes, row)
	}
	slices.Sort(r.Unknown)
	r.Unknown = slices.Compact(r.Unknown)
	slices.SortStableFunc(r.Nodes, func(a, b Row) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Name, b.Name))
	})
	for i := range r.Nodes {
		row := &r.Nodes[i]
		if len(r.Groups) == 0 || r.Groups[len(r.Groups)-1].Group != row.Group {
			r.Groups = append(r.Groups, Total{Group: row.Group})
		}
		r.Groups[len(r.Groups)-1].add(row)
		r.Cluster.add(row)
	}
	return r
}

func (t *Total) add(r *Row) {
	if r.Type != "" && !slices.Contains(t.Types, r.Type) {
		t.Types = append(t.Types, r.Type)
		slices.Sort(t.Types)
	}
	switch t.AfterBy {
	case "", r.AfterBy:
		t.AfterBy = r.AfterBy
	default:
		t.AfterBy = "several"
	}
	t.Nodes++
	t.Pods += r.Pods()
	t.Now += r.Now
	t.AsIs += r.AsIs
	t.After += r.After
	t.InUse += r.InUse
	t.Held += r.Held
}

// means are the average requests of the pods of each group; of a group without pods, those of the cluster.
type means struct {
	groups  map[string]mean
	cluster mean
}

func meansOf(nodes []Node) means {
	type sum struct{ cpu, memory, pods float64 }
	groups, all := map[string]sum{}, sum{}
	for i := range nodes {
		n := &nodes[i]
		g := groups[n.Group]
		for _, s := range []*sum{&g, &all} {
			s.cpu += float64(n.CPURequests)
			s.memory += float64(n.MemoryRequests)
			s.pods += float64(n.Pods())
		}
		groups[n.Group] = g
	}
	average := func(s sum) mean {
		if s.pods == 0 {
			return mean{}
		}
		return mean{s.cpu / s.pods, s.memory / s.pods}
	}
	out := means{groups: map[string]mean{}, cluster: average(all)}
	for name, s := range groups {
		if s.pods > 0 {
			out.groups[name] = average(s)
		}
	}
	return out
}

func (m means) of(group string) mean {
	if a, ok := m.groups[group]; ok {
		return a
	}
	return m.cluster
}

// Offline is the report of instance types without a cluster: an empty node of each, whose kubelet has AWS's figure. Types
// that nobody knows are in Unknown only. With 0 vCPUs those that EC2 says count.
func Offline(types []string, vcpus int, e EC2, c VPCCNI, t Target) Report {
	var nodes []Node
	var unknown []string
	for _, name := range types {
		l, known := e.limitsOf(name)
		if !known {
			unknown = append(unknown, name)
			continue
		}
		n := Node{Name: name, Type: name, Group: name, VCPUs: cmp.Or(vcpus, e.Types[name].VCPUs), HostPods: hostPods}
		n.MaxPods = e.settings(name, c).Pods(l, n.VCPUs)
		nodes = append(nodes, n)
	}
	r := Judge(nodes, e, c, t, Families()...)
	for i := range r.Nodes { // nothing runs there: neither pods nor the warm pool are facts
		r.Nodes[i].HostPods, r.Nodes[i].Held = 0, 0
	}
	r.Unknown = unknown
	return r
}
