// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package density

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Write prints a report for people; each of its nodes too if they are wanted.
func (r *Report) Write(w io.Writer, nodes bool) error {
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(cells ...any) { fmt.Fprintln(out, strings.Join(texts(cells), "\t")) }
	row("GROUP", "TYPE", "NODES", "PODS", "NOW", "AFTER, AS IS", fmt.Sprintf("AFTER, MAXPODS %d+", r.Target.MaxPods), "BOUND BY", "VPC ADDRESSES FREED")
	total := func(name string, t *Total) {
		row(name, types(t.Types), t.Nodes, t.Pods, t.Now, t.AsIs, t.After, t.AfterBy, freed(t.InUse, t.Held))
	}
	for i := range r.Groups {
		g := &r.Groups[i]
		name := g.Group
		if name == "" {
			name = "(no group)"
		}
		total(name, g)
	}
	if len(r.Groups) > 1 {
		total("cluster", &r.Cluster)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if nodes {
		fmt.Fprintln(out)
		row("NODE", "GROUP", "TYPE", "FORMULA", "MAXPODS", "PODS", "NOW", "BOUND BY", "AFTER, AS IS", "BOUND BY", fmt.Sprintf("AFTER, MAXPODS %d+", r.Target.MaxPods), "BOUND BY", "VPC ADDRESSES FREED")
		for i := range r.Nodes {
			n := &r.Nodes[i]
			row(n.Name, n.Group, n.Type, formula(n), n.MaxPods, n.Pods(), n.Now, n.NowBy, n.AsIs, n.AsIsBy, n.After, n.AfterBy, freed(n.InUse, n.Held))
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	r.notes(w)
	return nil
}

// WriteOffline prints the report of instance types.
func (r *Report) WriteOffline(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(out, "TYPE\tINTERFACES\tADDRESSES EACH\tPODS NOW\tAFTER, AS IS\tAFTER, MAXPODS %d+\tBOUND BY\n", r.Target.MaxPods)
	for i := range r.Nodes {
		n := &r.Nodes[i]
		l, _ := r.EC2.limitsOf(n.Type)
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", n.Type, l.Interfaces, l.Addresses, n.Formula, n.AsIs, n.After, n.AfterBy)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if r.VPCCNI.PrefixDelegation {
		fmt.Fprintf(w, "\nPrefix delegation: capped at %d for less than %d vCPUs and at %d for more, as AWS advises. How many there are --vcpus says, or EC2 with --aws.\n", capSmall, capVCPUs, capLarge)
	}
	r.notes(w)
	return nil
}

func (r *Report) notes(w io.Writer) {
	r.sources(w)
	fmt.Fprintf(w, "\n%s\n", StaysBound)
	fmt.Fprintf(w, "A slice of /%d has addresses for %d pods. Requests bound a node by the mean of its group's pods, less 11 MiB of memory for each pod more.\n",
		r.Target.NodeMaskSize, SlicePods(r.Target.NodeMaskSize))
	for _, a := range r.Advice {
		fmt.Fprintf(w, "\n%s: %s (%s)\n", a.Family, a.Do, a.Source)
		for line := range strings.Lines(a.Change) {
			fmt.Fprintf(w, "    %s", line)
		}
	}
}

func texts(cells []any) []string {
	out := make([]string, len(cells))
	for i, c := range cells {
		out[i] = fmt.Sprint(c)
	}
	return out
}

// types names the instance types of a group, at most three of them.
func types(names []string) string {
	const most = 3
	if len(names) == 0 {
		return "?"
	}
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ","), len(names)-most)
	}
	return strings.Join(names, ",")
}

func formula(r *Row) string {
	if !r.Known || r.moved() {
		return "-"
	}
	return fmt.Sprint(r.Formula)
}

func freed(inUse, held int) string {
	if held <= inUse {
		return fmt.Sprint(inUse)
	}
	return fmt.Sprintf("%d in use, about %d with the warm pool", inUse, held)
}
