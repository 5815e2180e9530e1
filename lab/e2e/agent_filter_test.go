// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestTheRuntimesFilterIsOverEveryAgent asks the kernel: whatever agents do in the other tests, they do behind the seccomp filter of
// the real containerd.
func TestTheRuntimesFilterIsOverEveryAgent(t *testing.T) {
	s := standing(t)
	for _, host := range s.hosts(t) {
		found, err := s.env.Cluster.Exec(t.Context(), host.Name, "pgrep", "-x", "cutover-agent")
		s.must(t, err)
		pids := strings.Fields(found)
		if len(pids) != 1 {
			t.Fatalf("%d agents on %s", len(pids), host.Name)
		}
		status, err := os.ReadFile(inNode(host, "/proc/"+pids[0]+"/status"))
		s.must(t, err)
		const filtered = "\nSeccomp:\t2\n" // SECCOMP_MODE_FILTER of linux/seccomp.h
		if !strings.Contains(string(status), filtered) {
			t.Errorf("the agent on %s runs without a filter:\n%s", host.Name, status)
		}
	}
}
