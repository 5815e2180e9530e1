// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package charts

import (
	"os/exec"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

// TestTheProgramsKnowTheirFlags asks the programs themselves: a flag that is not theirs ends them before --help is seen.
func TestTheProgramsKnowTheirFlags(t *testing.T) {
	manifests := mustRender(t, "--values", everything, "--set", "coordinator.dryRun=true")
	for program, args := range map[string][]string{
		"cutover-agent":       one[*appsv1.DaemonSet](t, manifests).Spec.Template.Spec.Containers[0].Args,
		"cutover-coordinator": one[*appsv1.Deployment](t, manifests).Spec.Template.Spec.Containers[0].Args,
	} {
		t.Run(program, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), program)
			if out, err := exec.Command("go", "build", "-o", path, "../cmd/"+program).CombinedOutput(); err != nil {
				t.Fatalf("building %s: %v\n%s", program, err, out)
			}
			accepts := func(args ...string) ([]byte, bool) {
				out, err := exec.Command(path, append(args, "--help")...).CombinedOutput()
				return out, err == nil
			}
			if out, ok := accepts(args...); !ok {
				t.Errorf("%s %v is refused:\n%s", program, args, out)
			}
			if _, ok := accepts(append(args, "--no-such-flag")...); ok {
				t.Error("--no-such-flag is accepted: this test proves nothing")
			}
		})
	}
}
