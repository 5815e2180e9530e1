// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"unicode"
)

const (
	// MaxMessageBytes is the greatest length of a message of a finding, a slot or a wait.
	MaxMessageBytes = 512
	// MaxFindingsBytes is the greatest sum of the sizes of a report's findings; the schema of NodeCutoverStatus holds to it.
	MaxFindingsBytes = 13 << 10
)

// Message makes text fit for a field, an Event and a terminal: one line of nothing but what prints, at most
// MaxMessageBytes, cut at a character. What is in it may come from whoever can name a file or answer for a webhook: an
// escape sequence would move the cursor of the one who reads, a line break would forge a line.
func Message(text string) string {
	plain := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r) && r != unicode.ReplacementChar: // as which a byte that is no UTF-8 shows
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return '?'
	}, text)
	if len(plain) <= MaxMessageBytes {
		return plain
	}
	return strings.ToValidUTF8(plain[:MaxMessageBytes-len("...")], "") + "..."
}

// Size is how many bytes the API server stores for a finding, as JSON, with the fields that its writer owns. Its rule in the schema
// of NodeCutoverStatus is this function in CEL.
func (f *Finding) Size() int {
	size := 160 + 2*len(f.Check) + len(f.Reason) + len(f.Message)
	for _, c := range f.Message {
		switch c {
		case '"', '\\':
			size++
		case '<', '>', '&': // six bytes each
			size += 5
		}
	}
	for _, e := range f.Evidence {
		size += 120 + 2*len(e.Name) + len(e.Unit)
	}
	return size
}
