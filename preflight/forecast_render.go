// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// shownWaves is how many waves a table has if not all are asked for, shownNodes how many nodes a list names.
const (
	shownWaves = 20
	shownNodes = 10
)

// Verdict is Fail if a node cannot be emptied and nothing but people changes that, Unknown if not everything was seen, Warn if
// a node gets no slot or could not be emptied just now.
func (f *Forecast) Verdict() v1alpha1.Verdict {
	verdict := v1alpha1.VerdictPass
	if len(f.Never)+len(f.Obstacles) > 0 {
		verdict = v1alpha1.VerdictWarn
	}
	if len(f.Unseen) > 0 {
		verdict = v1alpha1.VerdictUnknown
	}
	for _, o := range f.Obstacles {
		if o.Stays {
			verdict = v1alpha1.VerdictFail
		}
	}
	if len(f.Stuck) > 0 || f.Budget.SlicesTaken > f.Budget.Slices {
		verdict = v1alpha1.VerdictFail
	}
	return verdict
}

// Write prints a forecast for people, all waves or the first ones.
func (f *Forecast) Write(w io.Writer, all bool) error {
	nodes, most := 0, 0
	for i := range f.Waves {
		nodes += len(f.Waves[i].Nodes)
		most = max(most, len(f.Waves[i].Nodes))
	}
	fmt.Fprintf(w, "%s, looked at %s\n\n", f.Server, f.TakenAt.UTC().Format(time.RFC3339))
	if len(f.Assumed) == 0 {
		_, err := fmt.Fprintf(w, "Nothing is foretold, because this was not seen: %s\n", strings.Join(f.Unseen, ", "))
		return err
	}
	fmt.Fprintf(w, "%s in %s, at most %d at once: about %s\n\n", count(nodes, "node"), count(len(f.Waves), "wave"), most, time.Duration(f.Seconds)*time.Second)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WAVE\tNODE\tZONE\tEVICTED\tNO ROOM\tABOUT\tNO MORE AT ONCE BECAUSE")
	for i := range f.Waves {
		if i == shownWaves && !all {
			fmt.Fprintf(t, "...\tand %d waves more (-o wide)\t\t\t\t\t\n", len(f.Waves)-i)
			break
		}
		wave := &f.Waves[i]
		for k := range wave.Nodes {
			n := &wave.Nodes[k]
			number, about, why := "", "", ""
			if k == 0 {
				number, about, why = fmt.Sprint(i+1), (time.Duration(wave.Seconds) * time.Second).String(), wave.Why
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", number, n.Name, n.Zone, n.Evicted, len(n.NoRoom), about, why)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	f.lists(w)
	fmt.Fprintf(w, "\nSlices of the overlay: %d, taken at once: %d. Nodes beside those that are there, each with an address of its subnet: %d at once.\n", f.Budget.Slices, f.Budget.SlicesTaken, f.Budget.Extra)
	_, err := fmt.Fprintf(w, "\nAssumed:\n  - %s\n", strings.Join(f.Assumed, "\n  - "))
	return err
}

func (f *Forecast) lists(w io.Writer) {
	list := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintf(w, "\n%s\n", title)
		for i, line := range lines {
			if i == shownNodes {
				fmt.Fprintf(w, "  ... and %d more (-o json)\n", len(lines)-i)
				return
			}
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
	var never, obstacles, homeless []string
	for _, n := range f.Never {
		never = append(never, fmt.Sprintf("%s (%s): %s", n.Node, n.Reason, n.Message))
	}
	for _, o := range f.Obstacles {
		obstacles = append(obstacles, fmt.Sprintf("%s: %s", o.Node, o.Why))
	}
	for i := range f.Waves {
		for _, n := range f.Waves[i].Nodes {
			for _, p := range n.NoRoom {
				homeless = append(homeless, fmt.Sprintf("%s of %s: %s", p.Pod, n.Name, p.Why))
			}
		}
	}
	list("Not seen, so not in this forecast:", f.Unseen)
	list("Get no slot:", never)
	list("Could not be emptied today (kubectl cutover preflight says what mends it):", obstacles)
	list("Pods that fit on no other node, and wait for the replacement:", homeless)
	list("Budgets that would wait for such pods, and hold the slot (set rollout.surge, or add nodes first):", f.Stuck)
}
