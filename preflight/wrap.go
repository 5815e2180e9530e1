// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

var (
	escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")
	verdict = regexp.MustCompile(`^(?:Fail|Unknown|Warn|Pass|NotAsked) `)
)

// headColumns is how wide the verdict of a finding is, with the blank behind it.
const headColumns = 8

// Wrap breaks the lines of a page between words so that they fit into so many columns of a terminal. What follows a verdict
// stays beside it, and an item of a list behind its dash. Commands stay whole, because people copy them, and so do rows of tables.
func Wrap(page string, columns int) string {
	var out strings.Builder
	for line := range strings.Lines(page) {
		out.WriteString(wrapLine(line, columns))
	}
	return out.String()
}

func wrapLine(line string, columns int) string {
	shown := escapes.ReplaceAllString(strings.TrimSuffix(line, "\n"), "")
	text := strings.TrimLeft(shown, " ")
	indent := len(shown) - len(text)
	row := strings.Contains(shown[min(headColumns, len(shown)):], "  ")
	if utf8.RuneCountInString(shown) <= columns || strings.HasPrefix(text, "> ") || row {
		return line
	}
	switch {
	case verdict.MatchString(shown):
		indent = headColumns
	case strings.HasPrefix(text, "- "):
		indent += len("- ")
	}
	var out strings.Builder
	column := 0
	for i, word := range strings.Split(line, " ") {
		wide := utf8.RuneCountInString(escapes.ReplaceAllString(strings.TrimSuffix(word, "\n"), ""))
		switch {
		case i == 0:
		case column+1+wide > columns && column > indent:
			out.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += wide
	}
	return out.String()
}
