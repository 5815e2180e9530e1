// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/preflight"
	"github.com/cni-cutover/cni-cutover/status"
)

func (a *app) status() *cobra.Command {
	var follow bool
	var output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far the cutover is, what it waits for, and why",
		Long: "Show phase, slots with their steps and the verdicts of their agents, the nodes that are next, and what each waits for. With -w it\n" +
			"stays: a live table on a terminal, else a line for each thing that happens.\n\n" +
			"Exit codes without -w: 2 if nothing goes on before a person acts or a slot is held, 3 if the coordinator has not looked at the\n" +
			"Cutover as it is now.",
		Example: `  kubectl cutover status
  kubectl cutover status -w
  kubectl cutover status -w | tee cutover.log`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := a.cluster()
			if err != nil {
				return err
			}
			if follow {
				if output != "table" {
					return fmt.Errorf("reading the flags: -w shows a table or lines; leave -o away")
				}
				return a.follow(cmd.Context(), c)
			}
			cutover, err := readCutover(cmd.Context(), c)
			if err != nil {
				return err
			}
			err = a.print(output, cutover, func() error { return a.show(cmd.Context(), c, cutover, a.Out) })
			if err != nil {
				return err
			}
			switch status.StandingOf(cutover) {
			case status.Blocked:
				return verdict(codeBlocked)
			case status.Unseen:
				return verdict(codeUnsure)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "watch", "w", false, "stay and show what happens")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json or yaml")
	return cmd
}

// show prints the table of a cutover with the reports of the nodes in slots, read one by one: there are few.
func (a *app) show(ctx context.Context, c client.Client, cutover *v1alpha1.Cutover, w io.Writer) error {
	v := status.View{Cutover: cutover, Reports: map[string]*v1alpha1.NodeCutover{}, Now: time.Now()}
	for _, name := range status.Nodes(cutover) {
		var report v1alpha1.NodeCutover
		switch err := c.Get(ctx, client.ObjectKey{Name: name}, &report); {
		case err == nil:
			v.Reports[name] = &report
		case !apierrors.IsNotFound(err):
			return ask{"get", "nodecutovers.cni-cutover.dev", ""}.fail(err)
		}
	}
	return v.Write(w)
}

// redraw is how often a live table is drawn again when nothing happens: its ages grow.
const redraw = time.Second

// follow shows a cutover until the context ends. An API server that does not answer for a while, as while it is upgraded, is told
// of and waited for; a Cutover that is gone and a right that is missing end it.
func (a *app) follow(ctx context.Context, c client.WithWatch) error {
	now, err := readCutover(ctx, c)
	if err != nil {
		return err
	}
	terminal, live := a.terminal()
	if !live {
		if err := a.show(ctx, c, now, a.Out); err != nil {
			return err
		}
	}
	for {
		now, err = a.followOnce(ctx, c, now, terminal)
		var right *missingRight
		switch {
		case ctx.Err() != nil:
			return nil
		case apierrors.IsNotFound(err), errors.As(err, &right):
			return err
		case err != nil:
			a.note("%v; trying again", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(redraw):
		}
	}
}

// followOnce shows a cutover until the API server ends the watch, as it does every few minutes, and returns what was seen last.
func (a *app) followOnce(ctx context.Context, c client.WithWatch, now *v1alpha1.Cutover, terminal *os.File) (*v1alpha1.Cutover, error) {
	next, err := readCutover(ctx, c)
	if err != nil {
		return now, err
	}
	now = a.went(now, next, terminal)
	watched, err := c.Watch(ctx, &v1alpha1.CutoverList{}, &client.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", v1alpha1.CutoverName),
		Raw:           &metav1.ListOptions{ResourceVersion: next.ResourceVersion},
	})
	if err != nil {
		return now, ask{"watch", cutovers, ""}.fail(err)
	}
	defer watched.Stop()
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		if terminal != nil {
			if err := a.draw(ctx, c, now, terminal); err != nil {
				return now, err
			}
		}
		select {
		case <-ctx.Done():
			return now, nil
		case e, open := <-watched.ResultChan():
			if !open || e.Type == watch.Error {
				return now, nil
			}
			if next, ok := e.Object.(*v1alpha1.Cutover); ok && e.Type != watch.Deleted {
				now = a.went(now, next, terminal)
			} else if ok {
				return now, nil // the next reading says whether another one took its place
			}
		case <-tick.C:
		}
	}
}

// went tells a pipe what has changed, and returns what is now.
func (a *app) went(before, now *v1alpha1.Cutover, terminal *os.File) *v1alpha1.Cutover {
	if terminal == nil {
		for _, line := range status.Changes(before, now) {
			fmt.Fprintf(a.Out, "%s %s\n", time.Now().UTC().Format(time.RFC3339), line)
		}
	}
	return now
}

// terminal returns the terminal that output goes to, if it goes to one.
func (a *app) terminal() (*os.File, bool) {
	f, ok := a.Out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	return f, true
}

// page prints a page for people: on a terminal in colour, its lines broken to fit.
func (a *app) page(write func(w io.Writer, colour bool) error) error {
	terminal, live := a.terminal()
	if !live {
		return write(a.Out, false)
	}
	var text bytes.Buffer
	if err := write(&text, true); err != nil {
		return err
	}
	page := text.String()
	if width, _, err := term.GetSize(int(terminal.Fd())); err == nil && width > 0 {
		page = preflight.Wrap(page, width)
	}
	_, err := io.WriteString(terminal, page)
	return err
}

// draw draws the table over what stood there, cut to the window: what was scrolled away could not be drawn over.
func (a *app) draw(ctx context.Context, c client.Client, cutover *v1alpha1.Cutover, terminal *os.File) error {
	var table bytes.Buffer
	if err := a.show(ctx, c, cutover, &table); err != nil {
		return err
	}
	width, height, err := term.GetSize(int(terminal.Fd()))
	if err != nil {
		width, height = 80, 24
	}
	_, err = io.WriteString(terminal, "\x1b[H"+fit(table.String(), width, height)+"\x1b[J")
	return err
}

// fit cuts a text to a window, in characters, and ends every line so that nothing of an older one shows.
func fit(text string, width, height int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	lines = lines[:min(len(lines), max(height-1, 1))]
	for i, line := range lines {
		if r := []rune(line); len(r) > width {
			line = string(r[:max(width-1, 0)]) + "…"
		}
		lines[i] = line + "\x1b[K"
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}
