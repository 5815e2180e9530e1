// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// hostile are texts that whoever may name a file, a node or an interface could put into a sentence of ours.
var hostile = map[string]string{
	"colours and a moved cursor": "\x1b[2J\x1b[31mFAIL\x1b[0m\x1b]0;title\a",
	"a forged line":              "fine\nnode-2: Pass\r\nEvents: <none>",
	"a tab and a bell":           "a\tb\a",
	"no UTF-8":                   "\xff\xfe\xc3(\xe2\x82",
	"text from right to left":    "abc\u202etxt.exe\u2066",
	"nothing to see":             "a\u200bb\u2060c\ufeff",
	"other line breaks":          "a\u2028b\u2029c\u0085d",
	"a NUL":                      "a\x00b",
	"markup":                     `<script>alert("&amp;\u0000")</script>`,
	"private letters":            "\ue000\U000f0000",
	"marks upon marks":           "e" + strings.Repeat("\u0301", 600),
	"a long one":                 strings.Repeat("é", 5000),
}

// TestMessagesArePlain: whatever a message is made of, the API server takes what Message makes of it.
func TestMessagesArePlain(t *testing.T) {
	o := created(t, object(t, node))
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			message := v1alpha1.Message(text)
			if err := plain(message); err != nil {
				t.Error(err)
			}
			n := &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), ResourceVersion: o.GetResourceVersion()}}
			n.Status.Findings = someFindings(1)
			n.Status.Findings[0].Message = message
			if err := cluster.Status().Update(t.Context(), n, client.DryRunAll); err != nil {
				t.Errorf("%q is refused: %v", message, err)
			}
		})
	}
	if got, want := v1alpha1.Message("ein Satz mit Ä, 世界 und \"<&>\"\nund noch einer"), "ein Satz mit Ä, 世界 und \"<&>\" und noch einer"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func plain(message string) error {
	if len(message) > v1alpha1.MaxMessageBytes || !utf8.ValidString(message) {
		return fmt.Errorf("%d bytes, UTF-8 %t: %q", len(message), utf8.ValidString(message), message)
	}
	for _, r := range message {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%q is in %q", r, message)
		}
	}
	return nil
}

// TestTheAPIServerRefusesWhatIsNotPlain is for writers that are not our agent.
func TestTheAPIServerRefusesWhatIsNotPlain(t *testing.T) {
	o := created(t, object(t, node))
	for name, status := range map[string]v1alpha1.NodeCutoverStatus{
		"an escape sequence in a message":   {Findings: []v1alpha1.Finding{{Check: "A", Verdict: "Pass", Reason: "R", Message: "\x1b[2J"}}},
		"a line break in a message":         {Findings: []v1alpha1.Finding{{Check: "A", Verdict: "Pass", Reason: "R", Message: "a\nb"}}},
		"a message from right to left":      {Findings: []v1alpha1.Finding{{Check: "A", Verdict: "Pass", Reason: "R", Message: "a\u202eb"}}},
		"a reason that is a sentence":       {Findings: []v1alpha1.Finding{{Check: "A", Verdict: "Pass", Reason: "R\x1b[2J"}}},
		"a check that is none":              {Findings: []v1alpha1.Finding{{Check: "A\n", Verdict: "Pass", Reason: "R"}}},
		"an escape sequence in evidence":    {Findings: []v1alpha1.Finding{{Check: "A", Verdict: "Pass", Reason: "R", Evidence: []v1alpha1.Evidence{{Name: "\x1b"}}}}},
		"an escape sequence in a unit":      {Findings: []v1alpha1.Finding{{Check: "A", Verdict: "Pass", Reason: "R", Evidence: []v1alpha1.Evidence{{Name: "n", Unit: "\x1b"}}}}},
		"an escape sequence in a version":   {AgentVersion: "\x1b[2J"},
		"an escape sequence in a boot id":   {BootID: "\x1b[2J"},
		"an escape sequence in a challenge": {ChallengeID: "\x1b[2J"},
		"an escape sequence in a UID":       {NodeUID: "\x1b[2J"},
		"a UID of a megabyte":               {NodeUID: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
		"a role that there is not":          {Role: "Root"},
	} {
		t.Run(name, func(t *testing.T) {
			n := &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), ResourceVersion: o.GetResourceVersion()}, Status: status}
			refused(t, cluster.Status().Update(t.Context(), n, client.DryRunAll), "is invalid: ")
		})
	}
}

// TestAReportStaysBelow16KiB fills reports of every shape to the brim and looks at what the API server stores.
func TestAReportStaysBelow16KiB(t *testing.T) {
	const most = 16 << 10
	long := func(letter string) func(int) v1alpha1.Finding {
		return func(i int) v1alpha1.Finding {
			return v1alpha1.Finding{
				Check: v1alpha1.CheckName(fmt.Sprintf("Check%058d", i)), Verdict: v1alpha1.VerdictNotAsked, Reason: v1alpha1.Reason(strings.Repeat("R", 63)),
				Message: strings.Repeat(letter, v1alpha1.MaxMessageBytes/len(letter)),
			}
		}
	}
	short := func(i int) v1alpha1.Finding {
		return v1alpha1.Finding{Check: v1alpha1.CheckName(fmt.Sprint("C", i)), Verdict: v1alpha1.VerdictNotAsked, Reason: "R"}
	}
	numbers := func(name string) func(int) v1alpha1.Finding {
		return func(i int) v1alpha1.Finding {
			f := short(i)
			for k := range 16 {
				f.Evidence = append(f.Evidence, v1alpha1.Evidence{Name: fmt.Sprint(name, k), Value: -1 << 63, Unit: strings.Repeat("u", 31)})
			}
			return f
		}
	}
	for name, finding := range map[string]func(int) v1alpha1.Finding{
		"many findings": short, "long messages": long("x"), "wide messages": long("世"), "quotes": long(`"`), "backslashes": long(`\`),
		"markup": long("<"), "more markup": long("&"), "numbers": numbers("n"), "numbers with long names": numbers(strings.Repeat("n", 61)),
	} {
		t.Run(name, func(t *testing.T) {
			o := created(t, object(t, node))
			n := &v1alpha1.NodeCutover{ObjectMeta: metav1.ObjectMeta{Name: o.GetName()}}
			n.Status = v1alpha1.NodeCutoverStatus{
				ChallengeID: strings.Repeat("c", 63), NodeUID: "01234567-89ab-cdef-0123-456789abcdef", BootID: strings.Repeat("b", 64),
				Role: v1alpha1.RoleUnknown, JudgedRole: v1alpha1.RoleUnknown, AgentVersion: strings.Repeat("v", 64), ObservedAt: metav1.NowMicro(), Verdict: v1alpha1.VerdictNotAsked,
			}
			size := 0
			for i := range 64 {
				f := finding(i)
				if size+f.Size() > v1alpha1.MaxFindingsBytes {
					break
				}
				size += f.Size()
				n.Status.Findings = append(n.Status.Findings, f)
			}
			n.ResourceVersion = o.GetResourceVersion()
			if err := cluster.Status().Update(t.Context(), n); err != nil {
				t.Fatalf("%d findings of %d bytes: %v", len(n.Status.Findings), size, err)
			}
			stored := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "cni-cutover.dev/v1alpha1", "kind": "NodeCutover"}}
			if err := cluster.Get(t.Context(), client.ObjectKeyFromObject(n), stored); err != nil {
				t.Fatal(err)
			}
			asJSON, err := json.Marshal(stored)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d findings, counted as %d bytes, in an object of %d bytes", len(n.Status.Findings), size, len(asJSON))
			if len(asJSON) > most {
				t.Errorf("%d findings, counted as %d bytes, make an object of %d bytes, want at most %d", len(n.Status.Findings), size, len(asJSON), most)
			}
			if len(n.Status.Findings) == 64 {
				return
			}
			n.Status.Findings = append(n.Status.Findings, finding(64))
			refused(t, cluster.Status().Update(t.Context(), n), "the findings are more than a report may hold")
		})
	}
}
