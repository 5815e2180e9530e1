// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// plugin runs kubectl cutover as the cluster's administrator does, and returns its exit code and what it said.
func (s *scene) plugin(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../../bin/kubectl-cutover", append(args, "--kubeconfig", s.env.Cluster.Kubeconfig())...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("running the plugin, which make build builds: %v", err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// wantPlugin fails unless the plugin ends with a code and says these words.
func (s *scene) wantPlugin(t *testing.T, code int, args []string, words ...string) {
	t.Helper()
	got, said := s.plugin(t, args...)
	missing := ""
	for _, w := range words {
		if !strings.Contains(said, w) {
			missing += " " + w
		}
	}
	if got != code || missing != "" {
		t.Errorf("kubectl cutover %v ended with %d, want %d; not said is%s:\n%s", args, got, code, missing, said)
	}
}

// TestAReportBeforeTheEndSaysWhatIsMissing: every node is Legacy, and the VPC CNI runs.
func TestAReportBeforeTheEndSaysWhatIsMissing(t *testing.T) {
	s := standing(t)
	s.wantPlugin(t, 2, []string{"report"}, "**Fail**", "its pods are of role Legacy", "DaemonSet kube-system/aws-node", "label io.cilium/aws-node-enabled", "| HostPods | Pass |")
}

// wantProved waits until the plugin proves the end of a roll from the cluster's objects: pods may still be on their way.
func (s *scene) wantProved(t *testing.T) {
	t.Helper()
	s.eventually(t, time.Minute, func() string {
		if code, said := s.plugin(t, "report"); code != 0 || !strings.Contains(said, "**Pass**") || !strings.Contains(said, "| Soak |") {
			return said
		}
		return ""
	})
}
