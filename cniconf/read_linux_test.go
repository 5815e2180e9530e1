// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// plant writes files into a new directory and returns its path.
func plant(t testing.TB, pairs ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "net.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		write(t, filepath.Join(dir, pairs[i]), pairs[i+1])
	}
	return dir
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, target, at string) {
	t.Helper()
	if err := os.Symlink(target, at); err != nil {
		t.Fatal(err)
	}
}

func entry(t *testing.T, d Directory, name string) Entry {
	t.Helper()
	for _, e := range d.Entries {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("%s is not among the %d entries of %s", name, len(d.Entries), d.Path)
	return Entry{}
}

// outcome is what one test expects of Read and Judge together.
func expect(t *testing.T, d Directory, state State, winner string, condition Condition) {
	t.Helper()
	o := d.Judge()
	checkOutcome(t, d, o)
	if o.State != state {
		t.Errorf("state %v, want %v: %s", o.State, state, o.Why)
	}
	switch {
	case o.Winner == nil && winner != "":
		t.Errorf("no winner, want %s: %s", winner, o.Why)
	case o.Winner != nil && (o.Winner.File != winner || o.Winner.Condition != condition):
		t.Errorf("winner %s (%v), want %s (%v): %s", o.Winner.File, o.Winner.Condition, winner, condition, o.Why)
	}
}

func TestReadARealDirectory(t *testing.T) {
	aws, cilium := sample(t, "10-aws.conflist"), sample(t, "05-cilium.conflist")
	dir := plant(t, "10-aws.conflist", aws, "05-cilium.conflist", cilium, "calico-kubeconfig", "secret", "multus.d/multus.kubeconfig", "secret", "multus.d/x.conf", "{}")
	d := Read(dir)
	if d.Listing != Listed || d.Looks != 2 || len(d.Entries) != 4 {
		t.Fatalf("read listing %v in %d looks with %d entries (%s)", d.Listing, d.Looks, len(d.Entries), d.Detail)
	}
	expect(t, d, Ready, "05-cilium.conflist", Loads)
	if got := string(entry(t, d, "10-aws.conflist").Bytes); got != aws {
		t.Errorf("read %q", got)
	}
	if e := entry(t, d, "calico-kubeconfig"); e.Bytes != nil {
		t.Error("a file that is not configuration was read: it holds a credential")
	}
	if e := entry(t, d, "multus.d"); len(e.Sub) != 1 || e.Sub[0].Name != "x.conf" {
		t.Errorf("a directory's plugin files: %+v", e.Sub)
	}
	if diff := cmp.Diff(d.Judge(), ReadIn("/", dir).Judge()); diff != "" {
		t.Errorf("the same directory through its root (-dir +root):\n%s", diff)
	}
}

func TestReadWhatIsNotThere(t *testing.T) {
	dir := plant(t, "file", "")
	expect(t, Read(filepath.Join(dir, "gone")), Missing, "", 0)
	expect(t, Read(filepath.Join(dir, "file")), Missing, "", 0)
	expect(t, ReadIn(dir, "/gone/net.d"), Missing, "", 0)
	expect(t, ReadIn(filepath.Join(dir, "gone"), "/net.d"), Missing, "", 0)
	expect(t, Read(plant(t)), Empty, "", 0)
	expect(t, Read(plant(t, "README", "x")), Empty, "", 0)
}

func TestReadLinks(t *testing.T) {
	aws := sample(t, "10-aws.conflist")
	outside := plant(t, "real.conflist", aws)
	for _, c := range []struct {
		name, target string
		state        State // as Read sees it
		host         State // as ReadIn("/") sees it
	}{
		{"to a file beside it", "10-aws.conflist", Ready, Ready},
		{"to nothing", "gone", NoNetwork, NoNetwork},
		{"through a file", "10-aws.conflist/x", NoNetwork, NoNetwork},
		{"to itself", "00-x.conflist", NoNetwork, NoNetwork},
		{"to a directory", "sub", NoNetwork, NoNetwork},
		{"to its own directory", ".", NoNetwork, NoNetwork},
		{"out of the directory", filepath.Join(outside, "real.conflist"), Unreadable, Ready},
		{"out of the directory to nothing", "/nonexistent/x", Unreadable, NoNetwork},
		{"out of the directory to a device", "/dev/null", Unreadable, NoNetwork},
		{"up and out", "../../../../x", Unreadable, NoNetwork},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := plant(t, "10-aws.conflist", aws, "sub/y", "")
			link(t, c.target, filepath.Join(dir, "00-x.conflist"))
			expect(t, Read(dir), c.state, "00-x.conflist", conditionOf(c.state))
			expect(t, ReadIn("/", dir), c.host, "00-x.conflist", conditionOf(c.host))
		})
	}
}

func conditionOf(s State) Condition {
	return map[State]Condition{Ready: Loads, Refusing: Refuses, NoNetwork: Broken, Unreadable: CannotTell}[s]
}

func TestReadInFollowsLinksAsTheHostDoes(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "etc/cni/real/aws.conflist"), sample(t, "10-aws.conflist"))
	if err := os.MkdirAll(filepath.Join(root, "etc/cni/net.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, "/etc/cni/real/aws.conflist", filepath.Join(root, "etc/cni/net.d/10-aws.conflist"))
	expect(t, ReadIn(root, "/etc/cni/net.d"), Ready, "10-aws.conflist", Loads)
	expect(t, Read(filepath.Join(root, "etc/cni/net.d")), Unreadable, "10-aws.conflist", CannotTell)
}

func TestReadManyLinksUpwardsEnds(t *testing.T) {
	dir := plant(t, "99.conflist", sample(t, "10-aws.conflist"))
	for i := range 20 {
		link(t, ".", filepath.Join(dir, fmt.Sprintf("%02d.conf", i)))
	}
	expect(t, Read(dir), NoNetwork, "00.conf", Broken)
}

func TestReadSpecialFiles(t *testing.T) {
	dir := plant(t, "10-aws.conflist", sample(t, "10-aws.conflist"))
	if err := unix.Mkfifo(filepath.Join(dir, "00-fifo.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, Read(dir), NoNetwork, "00-fifo.conf", Broken)

	if err := os.Mkdir(filepath.Join(dir, "00-a.conflist"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "00-fifo.conf")); err != nil {
		t.Fatal(err)
	}
	expect(t, Read(dir), Ready, "10-aws.conflist", Loads)
}

func TestReadHugeFiles(t *testing.T) {
	dir := plant(t, "10-aws.conflist", sample(t, "10-aws.conflist"), "05-huge.conf", "")
	if err := os.Truncate(filepath.Join(dir, "05-huge.conf"), 1<<40); err != nil { // a hole: no disk is used
		t.Fatal(err)
	}
	d := Read(dir)
	if e := entry(t, d, "05-huge.conf"); e.Problem != TooLarge || e.Size != 1<<40 {
		t.Errorf("a file of a tebibyte: problem %v, size %d", e.Problem, e.Size)
	}
	expect(t, d, Unreadable, "05-huge.conf", CannotTell)

	full := plant(t, "00-aws.conflist", sample(t, "10-aws.conflist"))
	for i := range 5 {
		write(t, filepath.Join(full, fmt.Sprintf("1%d.conf", i)), strings.Repeat(" ", MaxFileBytes))
	}
	d = Read(full)
	if e := entry(t, d, "14.conf"); e.Problem != NotRead {
		t.Errorf("the file after the last byte of the budget: problem %v, want NotRead", e.Problem)
	}
	expect(t, d, Ready, "00-aws.conflist", Loads)
}

func TestReadTooManyNames(t *testing.T) {
	dir := plant(t)
	for i := range MaxNames + 1 {
		if err := unix.Mknod(filepath.Join(dir, fmt.Sprintf("%05d", i)), unix.S_IFREG|0o600, 0); err != nil {
			t.Fatal(err)
		}
	}
	d := Read(dir)
	if d.Listing != TooManyNames {
		t.Errorf("listing %v, want TooManyNames", d.Listing)
	}
	expect(t, d, Unreadable, "", 0)
}

// TestReadAsNobody drops root's right to read anything, for one thread that ends with the test.
func TestReadAsNobody(t *testing.T) {
	dir := plant(t, "10-aws.conflist", sample(t, "10-aws.conflist"), "05-cilium.conflist", "{}")
	closed := plant(t, "10-aws.conflist", "{}")
	for _, p := range []string{filepath.Join(dir, "05-cilium.conflist"), closed} {
		if err := os.Chmod(p, 0); err != nil {
			t.Fatal(err)
		}
	}
	for p := dir; p != os.TempDir() && p != "/"; p = filepath.Dir(p) { // t.TempDir is root's own
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(closed), 0o755); err != nil {
		t.Fatal(err)
	}
	var one, all Directory
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread dies with the goroutine
		_ = unix.Setfsuid(65534)
		_ = unix.Setfsgid(65534)
		one, all = Read(dir), Read(closed)
	}()
	<-done
	if err := os.Chmod(closed, 0o755); err != nil {
		t.Fatal(err)
	}
	if e := entry(t, one, "05-cilium.conflist"); e.Problem != Denied {
		t.Errorf("a file of mode 0: problem %v (%s), want Denied", e.Problem, e.Detail)
	}
	expect(t, one, Unreadable, "05-cilium.conflist", CannotTell)
	if all.Listing != NotListed {
		t.Errorf("a directory of mode 0: listing %v", all.Listing)
	}
	expect(t, all, Unreadable, "", 0)
}

// TestReadWhileItChanges changes the directory between looks, as an agent at work does.
func TestReadWhileItChanges(t *testing.T) {
	cilium, aws := sample(t, "05-cilium.conflist"), sample(t, "10-aws.conflist")
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string, n int) // n counts pauses from 1
		state  State
		winner string
		looks  int
	}{
		{"quiet", func(*testing.T, string, int) {}, Ready, "10-aws.conflist", 2},
		{"a file arrives once", func(t *testing.T, dir string, n int) {
			if n == 1 {
				write(t, filepath.Join(dir, "05-cilium.conflist"), cilium)
			}
		}, Ready, "05-cilium.conflist", 3},
		{"a writer copies slowly", func(t *testing.T, dir string, n int) {
			if n <= 3 {
				write(t, filepath.Join(dir, "10-aws.conflist"), aws[:n*len(aws)/3])
			}
		}, Ready, "10-aws.conflist", 5},
		{"a file is replaced by an equal one for ever", func(t *testing.T, dir string, _ int) {
			write(t, filepath.Join(dir, ".tmp"), aws)
			if err := os.Rename(filepath.Join(dir, ".tmp"), filepath.Join(dir, "10-aws.conflist")); err != nil {
				t.Fatal(err)
			}
		}, Unstable, "", looks},
		{"a writer is at the file, with the same bytes", func(t *testing.T, dir string, n int) {
			if err := os.Chtimes(filepath.Join(dir, "10-aws.conflist"), time.Time{}, time.Unix(int64(n), 0)); err != nil {
				t.Fatal(err)
			}
		}, Unstable, "", looks},
		{"two agents rename each other's file", func(t *testing.T, dir string, n int) {
			a, b := filepath.Join(dir, "10-aws.conflist"), filepath.Join(dir, "10-aws.conflist.cilium_bak")
			if n%2 == 0 {
				a, b = b, a
			}
			if err := os.Rename(a, b); err != nil {
				t.Fatal(err)
			}
		}, Unstable, "", looks},
		{"files nobody reads come and go", func(t *testing.T, dir string, n int) {
			write(t, filepath.Join(dir, fmt.Sprintf(".10-aws.conflist%d", n)), "x")
		}, Ready, "10-aws.conflist", 2},
		{"a link is turned", func(t *testing.T, dir string, n int) {
			at := filepath.Join(dir, "00.conflist")
			_ = os.Remove(at)
			link(t, fmt.Sprintf("gone-%d", n), at)
		}, Unstable, "", looks},
		{"the directory goes away", func(t *testing.T, dir string, n int) {
			if n == 1 {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
		}, Missing, "", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, n := plant(t, "10-aws.conflist", aws), 0
			d := reader{dir: dir, pause: func() { n++; c.change(t, dir, n) }}.read()
			if d.Looks != c.looks {
				t.Errorf("took %d looks, want %d", d.Looks, c.looks)
			}
			expect(t, d, c.state, c.winner, conditionOf(c.state))
		})
	}
}

// TestReadBesideAWriter races with an agent that replaces its file atomically and with two that rename one away and back: what is
// reported must have been true at some moment, so a file that is valid whenever it is there is never reported broken.
func TestReadBesideAWriter(t *testing.T) {
	dir := plant(t, "10-aws.conflist", sample(t, "10-aws.conflist"))
	at := filepath.Join(dir, "10-aws.conflist")
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			err := errors.Join(os.Rename(at, at+".cilium_bak"), os.Rename(at+".cilium_bak", at))
			if err != nil {
				done <- err
				return
			}
		}
	}()
	seen := map[State]int{}
	for range 300 {
		d := reader{dir: dir, pause: runtime.Gosched}.read()
		o := d.Judge()
		seen[o.State]++
		if o.State != Ready && o.State != Empty && o.State != Unstable {
			t.Errorf("state %v: %s", o.State, o.Why)
			break
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Log(seen)
}

func TestReadLeavesNothingOpen(t *testing.T) {
	dir := plant(t, "10-aws.conflist", sample(t, "10-aws.conflist"), "sub/x.conf", "{}")
	link(t, "gone", filepath.Join(dir, "00.conf"))
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	Read(dir) // whatever the runtime opens once is open after this
	before := count()
	for range 50 {
		reader{dir: dir, pause: func() {}}.read()
		reader{root: "/", dir: dir, pause: func() {}}.read()
		reader{root: "/", dir: dir + "/gone", pause: func() {}}.read()
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors open before 150 reads, %d after", before, after)
	}
}

func BenchmarkLook(b *testing.B) {
	dir := plant(b, "05-cilium.conflist", sample(b, "05-cilium.conflist"), "10-aws.conflist", sample(b, "10-aws.conflist"), "calico-kubeconfig", "")
	b.ReportAllocs()
	for b.Loop() {
		if d := (reader{dir: dir}).look(); len(d.Entries) != 3 {
			b.Fatal(d)
		}
	}
}
