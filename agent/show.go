// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Show prints a report for people on the node, as table, json or yaml. Why says in one sentence why the role is what it is.
func Show(w io.Writer, format, node, why string, s v1alpha1.NodeCutoverStatus) error {
	var (
		b   []byte
		err error
	)
	switch format {
	case "table":
		return table(w, node, why, s)
	case "json":
		b, err = json.MarshalIndent(s, "", "  ")
		b = append(b, '\n')
	case "yaml":
		b, err = yaml.Marshal(s)
	default:
		return fmt.Errorf("choosing the output: %q is none of table, json and yaml", format)
	}
	if err == nil {
		_, err = w.Write(b)
	}
	if err != nil {
		return fmt.Errorf("printing the report: %w", err)
	}
	return nil
}

func table(w io.Writer, node, why string, s v1alpha1.NodeCutoverStatus) error {
	fmt.Fprintf(w, "Node %s is %s: %s\n", node, s.Role, why)
	if s.JudgedRole != s.Role {
		fmt.Fprintf(w, "Judged as %s\n", s.JudgedRole)
	}
	fmt.Fprintf(w, "Verdict: %s\n\n", s.Verdict)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "CHECK\tVERDICT\tREASON\tMESSAGE")
	for _, f := range s.Findings {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", f.Check, f.Verdict, f.Reason, f.Message)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("printing the report: %w", err)
	}
	return nil
}
