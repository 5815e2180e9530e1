// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// command runs the program with arguments, without any API server to be found, and returns what it printed.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("NODE_NAME", "n1")
	var out bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestLookOnceNeedsNoAPIServer(t *testing.T) {
	host := t.TempDir()
	dir := filepath.Join(host, "etc/cni/net.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "05-cilium.conflist"), []byte(`{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := command(t, "look", "--once", "-o", "json", "--host-root", host, "--bpffs", t.TempDir(),
		"--overlay-cidrs", "10.244.0.0/16", "--role", "Overlay", "--disable-checks", "MTU,TunnelDevice")
	v := verdictError("")
	if !errors.As(err, &v) || v.code() != 3 {
		t.Errorf("error %v, want an Unknown verdict: there is neither Cilium nor an API server", err)
	}
	var s v1alpha1.NodeCutoverStatus
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	verdicts := map[v1alpha1.CheckName]v1alpha1.Verdict{}
	for _, f := range s.Findings {
		verdicts[f.Check] = f.Verdict
	}
	for check, want := range map[v1alpha1.CheckName]v1alpha1.Verdict{
		v1alpha1.CheckConflist: v1alpha1.VerdictPass, v1alpha1.CheckKernel: v1alpha1.VerdictPass, v1alpha1.CheckMTU: v1alpha1.VerdictNotAsked,
		v1alpha1.CheckOverlayMaps: v1alpha1.VerdictUnknown, v1alpha1.CheckPodAddresses: v1alpha1.VerdictUnknown, v1alpha1.CheckCiliumAlive: v1alpha1.VerdictUnknown,
	} {
		if verdicts[check] != want {
			t.Errorf("%s is %s, want %s", check, verdicts[check], want)
		}
	}
	if s.JudgedRole != v1alpha1.RoleOverlay || s.Role != v1alpha1.RoleUnknown || s.AgentVersion != "dev" {
		t.Errorf("%+v", s)
	}
}

func TestLookPrintsATable(t *testing.T) {
	out, _ := command(t, "look", "--once", "--host-root", t.TempDir(), "--bpffs", t.TempDir())
	for _, want := range []string{"Node n1 is Unknown", "CHECK", "OverlayMaps", "no --overlay-cidrs"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %s", want, out)
		}
	}
}

func TestMistakesOnTheCommandLineAreSaid(t *testing.T) {
	for args, want := range map[string]string{
		"look --once --disable-checks Kernle":     "Kernle",
		"look --once --role Both":                 "Both",
		"look --once --install-mode Chained":      "Chained",
		"look --once --overlay-cidrs 10.244":      "10.244",
		"look --once --legacy-daemonset aws-node": "namespace/name",
		"look --once -o xml":                      "xml",
		"run":                                     "no --kubeconfig",
		"run --kubeconfig /does/not/exist":        "/does/not/exist",
		"look --once now":                         "now",
	} {
		if out, err := command(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v (%s)", args, err, out)
		}
	}
}

func TestExitStatusTellsScriptsApart(t *testing.T) {
	if verdictError(v1alpha1.VerdictFail).code() != 2 || verdictError(v1alpha1.VerdictUnknown).code() != 3 {
		t.Error("Fail must be 2 and Unknown 3")
	}
}
