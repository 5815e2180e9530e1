// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// bornArg marks the second run of the first process, in its own cgroup namespace.
const bornArg = "born"

// Main is the life of a machine's first process; it does not return. The arguments are
// those that Start passed to the process, os.Args.
func Main(args []string) {
	runtime.LockOSThread() // a cgroup namespace belongs to the thread that made it, then calls exec
	switch {
	case len(args) == 3 && args[2] == bornArg:
		live()
	case len(args) == 2:
		if err := enterCgroup(args[1]); err != nil {
			fatal(err)
		}
		fatal(unix.Exec("/proc/self/exe", append(args, bornArg), os.Environ()))
	default:
		fatal(fmt.Errorf("arguments %q: %s is started by the lab only", args, Arg0))
	}
}

// fatal reports an error to Start and ends the machine.
func fatal(err error) {
	answer(hello{Error: err.Error()})
	log.Fatal(err)
}

func answer(told hello) {
	pipe := os.NewFile(3, "answer")
	defer pipe.Close()
	if err := json.NewEncoder(pipe).Encode(told); err != nil {
		log.Printf("answering: %v", err)
	}
}

func live() {
	unix.CloseOnExec(3) // exec between the two runs must keep it, programs must not get it
	stdin := bufio.NewReader(os.Stdin)
	line, err := stdin.ReadBytes('\n')
	if err != nil {
		fatal(fmt.Errorf("reading the machine's description: %w", err))
	}
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		os.Exit(0) // whoever made the machine is gone
	}()
	var spec Spec
	if err := json.Unmarshal(line, &spec); err != nil {
		fatal(fmt.Errorf("reading the machine's description: %w", err))
	}
	told, err := become(spec)
	if err != nil {
		fatal(err)
	}
	children := adopt()
	if err := children.run(spec.Programs); err != nil {
		fatal(err)
	}
	answer(told)
	select {}
}

// become turns the process's fresh namespaces into the machine.
func become(spec Spec) (hello, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return hello{}, fmt.Errorf("making mounts private: %w", err)
	}
	self, err := os.Readlink(filepath.Join(spec.HostProc, "self"))
	if err != nil {
		return hello{}, fmt.Errorf("reading the process number outside: %w", err)
	}
	pid, err := strconv.Atoi(self)
	if err != nil {
		return hello{}, fmt.Errorf("reading the process number outside: %w", err)
	}
	if err := unix.Sethostname([]byte(spec.Name)); err != nil {
		return hello{}, fmt.Errorf("setting the host name: %w", err)
	}
	if err := mountRoot(spec); err != nil {
		return hello{}, err
	}
	return hello{HostPID: pid}, writeFiles(spec.Files)
}

func writeFiles(files []File) error {
	for _, file := range files {
		if err := os.MkdirAll(filepath.Dir(file.Path), 0o755); err != nil {
			return fmt.Errorf("making the directory of %s: %w", file.Path, err)
		}
		if err := os.Remove(file.Path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("replacing %s: %w", file.Path, err)
		}
		if err := os.WriteFile(file.Path, file.Content, max(file.Mode, fs.FileMode(0o644))); err != nil {
			return fmt.Errorf("writing %s: %w", file.Path, err)
		}
	}
	return nil
}
