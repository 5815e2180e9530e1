// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cni-cutover/cni-cutover/lab"
)

// ownerEnv makes the test program the owner of a lab, to be killed.
const ownerEnv = "LAB_TEST_OWNER"

// own starts a lab, says so and waits to be killed.
func own() {
	c, err := lab.Start(context.Background(), lab.Config{Nodes: 1})
	if err != nil {
		fmt.Println("cannot start:", err)
		os.Exit(1)
	}
	fmt.Println(c.State())
	select {}
}

func TestNothingIsLeftWhenTheOwnerIsKilled(t *testing.T) {
	needsRoot(t)
	for _, test := range []struct {
		name     string
		guardian bool // is killed too
	}{{"owner alone", false}, {"owner and guardian", true}} {
		t.Run(test.name, func(t *testing.T) {
			ctx := deadline(t, 3*time.Minute)
			before := sysctls(t)
			owner, c := ownedByAnother(ctx, t)
			left := remember(ctx, t, c)
			if test.guardian {
				if err := guardianOf(t, owner.Process.Pid).Kill(); err != nil {
					t.Fatal(err)
				}
			}
			if err := owner.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = owner.Wait() // killed, as asked
			if test.guardian {
				left.awaitProcesses(ctx, t)
				sweep(ctx, t)
			}
			left.await(ctx, t)
			same(t, before, sysctls(t))
		})
	}
}

// sweep starts and stops a lab: a start removes what earlier labs left.
func sweep(ctx context.Context, t *testing.T) {
	t.Helper()
	c, err := lab.Start(ctx, lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
}

func ownedByAnother(ctx context.Context, t *testing.T) (*exec.Cmd, *lab.Cluster) {
	t.Helper()
	owner := exec.Command("/proc/self/exe")
	owner.Env = append(os.Environ(), ownerEnv+"=1")
	owner.Stderr = os.Stderr
	output, err := owner.StdoutPipe()
	if err == nil {
		err = owner.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = owner.Process.Kill() })
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "/") {
		t.Fatalf("the owner said %q, %v", line, err)
	}
	c, err := lab.Attach(ctx, strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	return owner, c
}

// guardianOf finds the only child of a process.
func guardianOf(t *testing.T, pid int) *os.Process {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var children []string
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, strings.Fields(string(text))...)
	}
	var child int
	if _, err := fmt.Sscan(strings.Join(children, " "), &child); err != nil || len(children) != 1 {
		t.Fatalf("children of %d are %q, want its guardian alone: %v", pid, children, err)
	}
	process, err := os.FindProcess(child)
	if err != nil {
		t.Fatal(err)
	}
	return process
}

// leftovers is what a lab could leave behind.
type leftovers struct {
	state      string
	namespaces map[string]string // by identifier: whose it is
}

// remember writes down what a running lab has.
func remember(ctx context.Context, t *testing.T, c *lab.Cluster) leftovers {
	t.Helper()
	hosts, err := c.Hosts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	l := leftovers{state: c.State(), namespaces: map[string]string{}}
	for _, host := range hosts {
		for _, kind := range []string{"pid", "mnt", "net", "cgroup"} {
			id, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", host.PID, kind))
			if err != nil {
				t.Fatal(err)
			}
			l.namespaces[id] = host.Name
		}
	}
	if len(l.cgroups(t)) == 0 || len(l.processes(t)) == 0 {
		t.Fatalf("a running lab has cgroups %q and processes %q: the test would find nothing", l.cgroups(t), l.processes(t))
	}
	return l
}

// processes lists the processes in a namespace of the lab.
func (l leftovers) processes(t *testing.T) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		id, err := os.Readlink(link)
		if err != nil {
			continue // has ended since
		}
		if host, ok := l.namespaces[id]; ok {
			found = append(found, host+" "+link)
		}
	}
	return found
}

func (l leftovers) cgroups(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(l.state))
	if err != nil {
		t.Fatal(err)
	}
	unified, err := filepath.Glob("/sys/fs/cgroup/" + filepath.Base(l.state))
	if err != nil {
		t.Fatal(err)
	}
	return append(found, unified...)
}

func (l leftovers) list(t *testing.T) []string {
	t.Helper()
	found := append(l.processes(t), l.cgroups(t)...)
	if _, err := os.Stat(l.state); err == nil {
		found = append(found, l.state)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, l.state) {
			found = append(found, line)
		}
	}
	return found
}

func (l leftovers) check(t *testing.T) {
	t.Helper()
	for _, what := range l.list(t) {
		t.Error("left behind: ", what)
	}
}

func (l leftovers) await(ctx context.Context, t *testing.T) {
	t.Helper()
	poll(ctx, t, "the lab to be gone", func() (string, bool) {
		found := l.list(t)
		return strings.Join(found, "\n"), len(found) == 0
	})
}

func (l leftovers) awaitProcesses(ctx context.Context, t *testing.T) {
	t.Helper()
	poll(ctx, t, "the lab's processes to be gone", func() (string, bool) {
		found := l.processes(t)
		return strings.Join(found, "\n"), len(found) == 0
	})
}

// sysctls are the settings of the whole machine that a kubelet changes.
func sysctls(t *testing.T) map[string]string {
	t.Helper()
	values := map[string]string{}
	for _, name := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	} {
		value, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			t.Fatal(err)
		}
		values[name] = string(value)
	}
	return values
}

func same(t *testing.T, want, got map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the machine's kernel settings changed (-before +after):\n%s", diff)
	}
}
