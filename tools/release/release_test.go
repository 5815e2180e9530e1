// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The repository, and the tools in it.
const (
	root  = "../.."
	tools = root + "/bin"
)

// TestKrewInstallsThePlugin has krew install from a release for this platform, and runs what it installed.
func TestKrewInstallsThePlugin(t *testing.T) {
	out, krew := t.TempDir(), t.TempDir()
	archives, err := release(t.Context(), root, out, "v0.0.1-test", []platform{{runtime.GOOS, runtime.GOARCH}})
	if err != nil {
		t.Fatal(err)
	}
	if err := try(t.Context(), tools, out, archives[0]); err != nil {
		t.Error(err)
	}
	if err := install(t.Context(), tools, out, krew, archives[0]); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(filepath.Join(krew, "bin", "kubectl-cutover"), "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(said), "v0.0.1-test") {
		t.Errorf("the installed plugin says %q, %v", said, err)
	}

	again, err := pack(t.TempDir(), "v0.0.1-test", archives[0].platform, []string{filepath.Join(krew, "bin", "kubectl-cutover"), filepath.Join(root, "LICENSE")})
	if err != nil || again != archives[0] {
		t.Errorf("packed again it is %+v, %v, and was %+v", again, err, archives[0])
	}

	file := filepath.Join(out, archives[0].File)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := try(t.Context(), tools, out, archives[0]); err == nil || !strings.Contains(err.Error(), "checksum does not match") {
		t.Errorf("krew took an archive that is another than the manifest's: %v", err)
	}
}

// TestTheManifestNamesEveryPlatformOnce has krew's own validation judge what a release of all platforms would publish.
func TestTheManifestNamesEveryPlatformOnce(t *testing.T) {
	judge := func(archives []archive) (string, error) {
		text, err := manifest("v1.2.3", archives)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), manifestFile)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		said, err := exec.Command(filepath.Join(tools, "validate-krew-manifest"), "-skip-install", "-manifest", path).CombinedOutput()
		return string(said), err
	}
	var all []archive
	for _, p := range platforms() {
		all = append(all, archive{p, "kubectl-cutover_v1.2.3_" + p.OS + "_" + p.Arch + ".tar.gz", strings.Repeat("0", 64)})
	}
	if said, err := judge(all); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := judge(append(all, all[0])); err == nil || !strings.Contains(said, "overlapping") {
		t.Errorf("a platform that is named twice is judged so: %v: %s", err, said)
	}
}

func TestAVersionIsOneThatKrewKnows(t *testing.T) {
	for _, tag := range []string{"", "dev", "1.2.3", "v1", "cni-cutover-v1.2.3"} {
		if _, err := release(t.Context(), root, t.TempDir(), tag, nil); err == nil {
			t.Errorf("%q is taken", tag)
		}
	}
}
