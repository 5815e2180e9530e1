// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is one mounted cgroup hierarchy.
type hierarchy struct {
	dir     string // mount point
	version int    // 1 or 2
	options string // mount data: the controllers of a version 1 hierarchy
}

// parseHierarchies reads /proc/self/mountinfo (proc_pid_mountinfo(5)): optional fields end
// at a lone "-", then come the type, the source and the super block's options.
func parseHierarchies(mountinfo io.Reader) ([]hierarchy, error) {
	var found []hierarchy
	seen := map[string]bool{}
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || seen[right[0]+right[2]] {
			continue
		}
		switch right[0] {
		case "cgroup":
			found = append(found, hierarchy{left[4], 1, controllers(right[2])})
		case "cgroup2":
			found = append(found, hierarchy{left[4], 2, ""})
		default:
			continue
		}
		seen[right[0]+right[2]] = true
	}
	return found, lines.Err()
}

// controllers drops the options of the super block that are no mount data of a cgroup:
// "rw,cpu,cpuacct" is "cpu,cpuacct", "rw,xattr,name=systemd" is "none,name=systemd".
func controllers(options string) string {
	var kept []string
	for _, option := range strings.Split(options, ",") {
		switch {
		case option == "rw" || option == "ro" || option == "xattr" || option == "relatime" || option == "clone_children":
		case strings.HasPrefix(option, "release_agent="):
		case strings.HasPrefix(option, "name="):
			kept = append(kept, "none", option)
		default:
			kept = append(kept, option)
		}
	}
	return strings.Join(kept, ",")
}

func hierarchies() ([]hierarchy, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("looking for cgroup hierarchies: %w", err)
	}
	defer file.Close()
	found, err := parseHierarchies(file)
	if err == nil && len(found) == 0 {
		err = errors.New("none is mounted: mount cgroup2 on /sys/fs/cgroup")
	}
	if err != nil {
		return nil, fmt.Errorf("looking for cgroup hierarchies: %w", err)
	}
	return found, nil
}

// enterCgroup makes the calling process the first one of a new cgroup namespace rooted at
// dir in every hierarchy. It must run on a locked thread that then calls exec: the
// namespace belongs to the thread.
func enterCgroup(dir string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		path := h.dir
		for _, name := range strings.Split(dir, "/") {
			parent := path
			path = filepath.Join(path, name)
			if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("making cgroup %s: %w", path, err)
			}
			if err := h.inherit(parent, path); err != nil {
				return err
			}
		}
		if err := join(path); err != nil {
			return err
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("making a cgroup namespace: %w", err)
	}
	for _, h := range all {
		if h.version != 2 {
			continue
		}
		// Version 2 allows controllers only below groups without processes.
		leaf := filepath.Join(h.dir, dir, "init")
		if err := os.Mkdir(leaf, 0o755); err != nil {
			return fmt.Errorf("making cgroup %s: %w", leaf, err)
		}
		if err := join(leaf); err != nil {
			return err
		}
	}
	return nil
}

// inherit hands the parent's resources on to a new group.
func (h hierarchy) inherit(parent, child string) error {
	if h.version == 2 {
		available, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("reading the controllers of cgroup %s: %w", parent, err)
		}
		for _, controller := range strings.Fields(string(available)) {
			if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte("+"+controller), 0o644); err != nil {
				return fmt.Errorf("enabling controller %s below cgroup %s: %w", controller, parent, err)
			}
		}
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new group, and then nobody may join
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(child, file), value, 0o644)
		}
		if err != nil {
			return fmt.Errorf("copying %s to cgroup %s: %w", file, child, err)
		}
	}
	return nil
}

func join(cgroup string) error {
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return fmt.Errorf("joining cgroup %s: %w", cgroup, err)
	}
	return nil
}

// RemoveCgroups removes the directory dir and all below it from every hierarchy. Its
// processes must be dead; the kernel lets go of a dead one a moment later, so it tries for
// up to five seconds.
func RemoveCgroups(dir string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range all {
		deadline := time.Now().Add(5 * time.Second)
		err := removeTree(filepath.Join(h.dir, dir))
		for errors.Is(err, unix.EBUSY) && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
			err = removeTree(filepath.Join(h.dir, dir))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("removing cgroup: %w", err))
		}
	}
	return errors.Join(errs...)
}

// removeTree removes a cgroup and its children; their files cannot be and need not be.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
