// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package machine makes a computer out of namespaces: its own processes, mounts, network,
// host name and control groups, and a first process that starts its programs and keeps
// them running. The root is an overlay of the real machine's root whose changes live in
// memory, so when the first process dies the kernel takes everything else along.
package machine

import "os"

// Spec says what a machine is.
type Spec struct {
	// Name is the host name.
	Name string
	// Cgroup is the machine's directory below the mount point of every cgroup hierarchy;
	// inside it is the root of the machine's cgroup namespace.
	Cgroup string
	// Scratch is an empty directory of the real machine. Inside, a tmpfs is mounted on it.
	Scratch string
	// HostProc is where the caller sees the proc file system of the machine's grandparent,
	// the real machine; the first process reads there which number it has outside.
	HostProc string
	// Memory lists directories that are plain tmpfs inside: those which themselves hold
	// overlays, and those that must start empty.
	Memory []string
	// Mounts come after the root is complete, in order.
	Mounts []Mount
	// Files are written after the mounts; parents are made.
	Files []File
	// Shadows replaces files the machine must not share or change, by path. The value is
	// the content (the kernel-wide settings below /proc/sys are the reason this exists).
	Shadows map[string]string
	// Programs run in order: each begins when the one before it is ready.
	Programs []Program
	// Log is a directory of the real machine that gets one file per program.
	Log string
}

// Mount binds Source (a path of the real machine) over Target, or, when Copy is set,
// copies the files of the directory Source there.
type Mount struct {
	Source, Target string
	Copy           bool
}

// File is a file written when the machine starts.
type File struct {
	Path    string
	Content []byte
	Mode    os.FileMode
}

// Program is one line of the machine's start script.
type Program struct {
	Name string // of its log file
	Args []string
	Env  []string // added to PATH and HOME
	// Once: the program must end with status 0 before the next one begins. Others are
	// restarted a second after they end, as a service manager does.
	Once bool
	// Ready is a path that must exist before the next program begins.
	Ready string
}

// hello is what the first process tells the caller once its start script has run.
type hello struct {
	HostPID int
	Error   string
}
