// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// touch makes n empty files.
func touch(t *testing.T, dir, pattern string, n int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := unix.Mknod(filepath.Join(dir, fmt.Sprintf(pattern, i)), unix.S_IFREG|0o600, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// held counts what a directory keeps in memory.
func (d Directory) held() (names, bytes int) {
	for _, e := range d.Entries {
		names, bytes = names+1+len(e.Sub), bytes+len(e.Bytes)
		for _, s := range e.Sub {
			bytes += len(s.Bytes)
		}
	}
	return names, bytes
}

func TestReadAHundredThousandNames(t *testing.T) {
	dir := plant(t, "10-aws.conflist", sample(t, "10-aws.conflist"))
	touch(t, dir, "%06d.conf", 100_000)
	d := Read(dir)
	expect(t, d, Unreadable, "", 0)
	if names, bytes := d.held(); names != 0 || bytes != 0 {
		t.Errorf("%d names and %d bytes are kept of a directory that is not judged", names, bytes)
	}
	if why := d.Judge().Why; !strings.Contains(why, "holds more than 4096 names") {
		t.Errorf("it is not said: %s", why)
	}
}

// TestReadDirectoriesFullOfNames: each is small enough, all of them together are not.
func TestReadDirectoriesFullOfNames(t *testing.T) {
	dir := plant(t, "10-aws.conflist", sample(t, "10-aws.conflist"))
	for i := range 5 {
		touch(t, filepath.Join(dir, fmt.Sprintf("sub%d", i)), "%06d.conf", MaxNames/4)
	}
	d := Read(dir)
	if names, _ := d.held(); names > MaxNames+len(d.Entries) {
		t.Errorf("%d names are kept", names)
	}
	if e := entry(t, d, "sub4"); !e.SubMore || e.Detail == "" {
		t.Errorf("the last directory: %+v, want it said that it was not listed", e)
	}
	expect(t, d, Ready, "10-aws.conflist", Loads) // its own directory, aws-cni, is not among them

	// The one that matters comes too late to be listed.
	touch(t, filepath.Join(dir, "zzz"), "%06d.conf", 1)
	write(t, filepath.Join(dir, "00-late.conflist"), `{"cniVersion":"1.0.0","name":"zzz","plugins":[{"type":"x"}]}`)
	d = Read(dir)
	expect(t, d, Unreadable, "00-late.conflist", CannotTell)
	if why := d.Judge().Why; !strings.Contains(why, "too many names") {
		t.Errorf("it is not said: %s", why)
	}
}

func TestReadConflistsThatAreTooMuch(t *testing.T) {
	for name, c := range map[string]struct {
		content   string
		state     State
		condition Condition
		says      string
	}{
		"10 MB":                       {`{"name":"n","plugins":[` + strings.Repeat(`{"type":"x"},`, 10_000_000/13) + `{"type":"x"}]}`, Unreadable, CannotTell, "more than the 1048576 this program reads"},
		"100,000 levels of lists":     {`{"name":"n","plugins":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}", NoNetwork, Broken, "does not load"},
		"100,000 levels of objects":   {strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000), NoNetwork, Broken, "does not load"},
		"100,000 levels and no end":   {strings.Repeat(`{"a":`, 100_000), NoNetwork, Broken, "does not load"},
		"100,000 levels in a setting": {`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"x","a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}]}", NoNetwork, Broken, "does not load"},
		"a number of a megabyte":      {`{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"x","mtu":` + strings.Repeat("9", 1_000_000) + "}]}", NoNetwork, Broken, "does not load"},
		"80,000 plugins":              {`{"cniVersion":"1.0.0","name":"n","plugins":[` + strings.Repeat(`{"type":"x"},`, 80_000) + `{"type":"x"}]}`, Ready, Loads, "and 79996 more"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Read(plant(t, "00-first.conflist", c.content, "10-aws.conflist", sample(t, "10-aws.conflist")))
			expect(t, d, c.state, "00-first.conflist", c.condition)
			if _, bytes := d.held(); bytes > MaxTotalBytes {
				t.Errorf("%d bytes are kept", bytes)
			}
			if why := d.Judge().Why; !strings.Contains(why, c.says) || len(why) > maxWhy {
				t.Errorf("%d bytes that do not say %q: %s", len(why), c.says, why)
			}
		})
	}
}

// TestReadOpensNothingThatWaits: whoever opens a FIFO without a writer waits for one, and a device acts when it is opened. The
// test ends because nothing of the kind is opened, in the directory and in the one named after the network.
func TestReadOpensNothingThatWaits(t *testing.T) {
	plugins := `{"cniVersion":"1.0.0","name":"sub","plugins":[{"type":"x"}]}`
	special := map[string]func(path string) error{
		"a FIFO":             func(path string) error { return unix.Mkfifo(path, 0o644) },
		"a device":           func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o644, int(unix.Mkdev(5, 0))) }, // /dev/tty
		"a block device":     func(path string) error { return unix.Mknod(path, unix.S_IFBLK|0o644, int(unix.Mkdev(7, 0))) }, // /dev/loop0
		"a socket":           func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o644, 0) },
		"a link to a FIFO":   func(path string) error { return linkTo(path, ".fifo", unix.S_IFIFO) },
		"a link to a device": func(path string) error { return linkTo(path, ".device", unix.S_IFCHR) },
		"a link to itself":   func(path string) error { return os.Symlink(filepath.Base(path), path) },
		"a loop of links": func(path string) error {
			if err := os.Symlink(filepath.Base(path)+".2", path); err != nil {
				return err
			}
			return os.Symlink(filepath.Base(path), path+".2")
		},
	}
	for name, plant1 := range special {
		t.Run(name, func(t *testing.T) {
			dir := plant(t, "10-aws.conflist", sample(t, "10-aws.conflist"))
			if err := plant1(filepath.Join(dir, "00-first.conflist")); err != nil {
				t.Fatal(err)
			}
			expect(t, Read(dir), NoNetwork, "00-first.conflist", Broken)

			dir = plant(t, "10-sub.conflist", plugins, "sub/a.conf", `{"type":"a"}`)
			if err := plant1(filepath.Join(dir, "sub", "b.conf")); err != nil {
				t.Fatal(err)
			}
			expect(t, Read(dir), NoNetwork, "10-sub.conflist", Broken)
		})
	}
	t.Run("a FIFO in the directory's place", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "net.d")
		if err := unix.Mkfifo(path, 0o644); err != nil {
			t.Fatal(err)
		}
		expect(t, Read(path), Missing, "", 0)
	})
}

// linkTo makes a special file beside path and a link to it.
func linkTo(path, name string, kind uint32) error {
	if err := unix.Mknod(filepath.Join(filepath.Dir(path), name), kind|0o644, int(unix.Mkdev(5, 0))); err != nil {
		return err
	}
	return os.Symlink(name, path)
}
