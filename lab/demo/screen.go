// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// statusEvery is the time between two status lines where nothing can be drawn over.
const statusEvery = 5 * time.Second

// screen shows snapshots: as a page that is drawn over on a terminal, else as lines.
type screen struct {
	out      io.Writer
	width    int // columns of the terminal; 0: none
	drawn    int // lines of the page that is there
	before   snapshot
	statusAt time.Duration
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if file, ok := out.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		if size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ); err == nil {
			s.width = int(size.Col)
		}
	}
	return s
}

// show draws the page, or tells what is new in it, and returns whether something is.
func (s *screen) show(now snapshot) bool {
	lines := changes(s.before, now)
	s.before = now
	isNew := len(lines) > 0
	if s.width == 0 {
		if now.elapsed >= s.statusAt {
			lines = append(lines, status(now))
			s.statusAt = now.elapsed + statusEvery
		}
		for _, line := range lines {
			fmt.Fprintln(s.out, line)
		}
		return isNew
	}
	var page strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&page, "\x1b[%dA", s.drawn) // back to the page's first line
	}
	lines = frame(now)
	for _, line := range lines {
		page.WriteString("\r" + cut(line, s.width) + "\x1b[K\n")
	}
	page.WriteString("\x1b[J") // what the page before had below
	s.drawn = len(lines)
	fmt.Fprint(s.out, page.String())
	return isNew
}

// cut keeps a line from wrapping, which would spoil the count of lines.
func cut(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:width])
	}
	return line
}
