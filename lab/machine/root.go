// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// logDir is where a machine sees its own log directory.
const logDir = "/var/log/lab"

// mountRoot builds the machine's file tree and makes it the root: an overlay of the real
// root with its changes on a tmpfs, fresh proc and sysfs (they show the namespaces of
// whoever mounts them), a BPF file system, the cgroups, and what the spec asks for.
func mountRoot(spec Spec) error {
	cgroups, err := hierarchies()
	if err != nil {
		return err
	}
	if err := mount("tmpfs", spec.Scratch, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	root := filepath.Join(spec.Scratch, "root")
	if err := overlay(spec.Scratch, root); err != nil {
		return err
	}
	steps := []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"bpf", "/sys/fs/bpf", "bpf", 0, "mode=0700"},
		{"/dev", "/dev", "", unix.MS_BIND | unix.MS_REC, ""},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, ""},
		{"mqueue", "/dev/mqueue", "mqueue", 0, ""},
		{"tmpfs", "/run", "tmpfs", 0, "mode=0755"},
		{"tmpfs", "/tmp", "tmpfs", 0, "mode=1777"},
		{spec.Log, logDir, "", unix.MS_BIND, ""},
	}
	for _, step := range steps {
		target := filepath.Join(root, step.target)
		if step.target == "/dev/mqueue" {
			if _, err := os.Stat(target); err != nil {
				continue // devtmpfs is the real machine's: nothing is made there
			}
		}
		if err := mount(step.source, target, step.kind, step.flags, step.data); err != nil {
			return err
		}
	}
	if err := mountCgroups(cgroups, root); err != nil {
		return err
	}
	if err := mountExtras(spec, root); err != nil {
		return err
	}
	return enter(root)
}

// mountExtras mounts what the spec asks for, and hides the kernel's own settings.
func mountExtras(spec Spec, root string) error {
	for _, dir := range spec.Memory {
		if err := mount("tmpfs", filepath.Join(root, dir), "tmpfs", 0, "mode=0755"); err != nil {
			return err
		}
	}
	for _, m := range spec.Mounts {
		target := filepath.Join(root, m.Target)
		if m.Copy {
			if err := os.CopyFS(target, os.DirFS(m.Source)); err != nil {
				return fmt.Errorf("copying %s to %s: %w", m.Source, target, err)
			}
			continue
		}
		if err := bind(m.Source, target); err != nil {
			return err
		}
	}
	for path, content := range spec.Shadows {
		name := filepath.Join(spec.Scratch, "shadow-"+tag(path))
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return fmt.Errorf("writing the stand-in for %s: %w", path, err)
		}
		if err := bind(name, filepath.Join(root, path)); err != nil {
			return err
		}
	}
	return nil
}

func mountCgroups(all []hierarchy, root string) error {
	if len(all) != 1 {
		if err := mount("tmpfs", filepath.Join(root, "/sys/fs/cgroup"), "tmpfs", 0, "mode=0755"); err != nil {
			return err
		}
	}
	for _, h := range all {
		kind := "cgroup"
		if h.version == 2 {
			kind = "cgroup2"
		}
		if err := mount(kind, filepath.Join(root, h.dir), kind, 0, h.options); err != nil {
			return err
		}
	}
	return nil
}

// enter makes dir the root and forgets the old one.
func enter(dir string) error {
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("entering the machine's root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root to %s: %w", dir, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil { // "." is now the old root, on top of the new one
		return fmt.Errorf("leaving the old root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil { // kubelet's volumes rely on it
		return fmt.Errorf("making mounts shared: %w", err)
	}
	return nil
}

// overlay mounts a writable view of the real root; its changes live on the tmpfs.
func overlay(scratch, target string) error {
	upper, work := filepath.Join(scratch, "upper"), filepath.Join(scratch, "work")
	for _, dir := range []string{upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("making the overlay of the root: %w", err)
		}
	}
	return mount("overlay", target, "overlay", 0, fmt.Sprintf("lowerdir=/,upperdir=%s,workdir=%s", upper, work))
}

// bind mounts a file or a directory over target, which is made if there is none.
func bind(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("mounting on %s: %w", target, err)
	}
	if !info.IsDir() {
		if _, err := os.Stat(target); err != nil {
			if err := writeFiles([]File{{Path: target}}); err != nil {
				return err
			}
		}
	}
	return mount(source, target, "", unix.MS_BIND|unix.MS_REC, "")
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if _, err := os.Stat(target); err != nil {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("making mount point %s: %w", target, err)
		}
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mounting %s (%s %s) on %s: %w", source, kind, data, target, err)
	}
	return nil
}

// tag is a short file name for a path.
func tag(path string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(path)))[:12] }
