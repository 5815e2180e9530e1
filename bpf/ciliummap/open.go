// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package ciliummap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// OpenError says that the kernel would not hand out a pinned object, and what to do about it.
// It unwraps to the errno: errors.Is with fs.ErrNotExist and fs.ErrPermission works.
type OpenError struct {
	Path   string
	Advice string
	Err    error
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("opening pin %s: %v; %s", e.Path, e.Err, e.Advice)
}

func (e *OpenError) Unwrap() error { return e.Err }

// openMap opens a pinned map read-only and lets it through only with a recognised layout. The caller closes it.
func openMap(globalsDir, pin string) (*ebpf.Map, error) {
	path := filepath.Join(globalsDir, pin)
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, explain(path, err)
	}
	if err := recognise(path, pin, Layout{m.Type(), m.KeySize(), m.ValueSize()}); err != nil {
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

// ReadPins returns the names of everything that is pinned in a globals directory, sorted. Which maps Cilium pins tells what it does
// on this node: it makes them when it starts, and removes the pins of most that it no longer needs.
func ReadPins(globalsDir string) ([]string, error) {
	entries, err := os.ReadDir(globalsDir)
	if err != nil {
		return nil, explain(globalsDir, err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// openIPCache opens the newest ipcache pin. Its name is returned because versions differ.
func openIPCache(globalsDir string) (*ebpf.Map, string, error) {
	names, err := ReadPins(globalsDir)
	if err != nil {
		return nil, "", err
	}
	pin := newestIPCache(names)
	m, err := openMap(globalsDir, pin)
	return m, pin, err
}

// explain turns the errno of an open into a sentence a person can act on.
func explain(path string, err error) error {
	return &OpenError{Path: path, Advice: advice(path, err), Err: err}
}

func advice(path string, err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return "bpf(2) itself was refused: allow it in the container's seccomp profile (RuntimeDefault only lets it " +
			"through with CAP_BPF or CAP_SYS_ADMIN), and add CAP_BPF on an old kernel with " +
			"kernel.unprivileged_bpf_disabled set"
	case errors.Is(err, fs.ErrPermission) && !onBPFFS(path):
		return "it is not on a bpffs: mount the host's /sys/fs/bpf here (hostPath, mountPropagation HostToContainer)"
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("%s and this process is uid %d: run as uid 0, or add CAP_DAC_READ_SEARCH for maps "+
			"(CAP_DAC_OVERRIDE for links, which cannot be opened read-only); no other capability is needed",
			ownership(path), os.Geteuid())
	case errors.Is(err, fs.ErrNotExist) && !onBPFFS(path):
		return "no bpffs is visible there: mount the host's /sys/fs/bpf (hostPath, mountPropagation HostToContainer), " +
			"and do not enter the network with `ip netns exec`, which hides it"
	case errors.Is(err, fs.ErrNotExist):
		return "the bpffs is there and Cilium has not pinned it (yet): see whether cilium-agent runs on this node, and look again"
	case errors.Is(err, unix.EROFS):
		return "the bpffs itself is mounted read-only, and links can only be opened for writing: " +
			"remount it rw, a read-only bind mount of it into the container is fine"
	default:
		return "see whether the pin is of the kind its place says (bpftool map show pinned, bpftool link show pinned)"
	}
}

func ownership(path string) string {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "its owner cannot be read"
	}
	return fmt.Sprintf("it belongs to uid %d with mode %04o", st.Uid, st.Mode&0o7777)
}

// onBPFFS asks about the nearest existing ancestor, so that a missing pin on a real bpffs counts as one.
func onBPFFS(path string) bool {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		if err == nil {
			return st.Type == unix.BPF_FS_MAGIC
		}
		parent := filepath.Dir(path)
		if parent == path {
			return false
		}
		path = parent
	}
}
