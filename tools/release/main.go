// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Command release makes what is published of the plugin: an archive for each platform, with the licence in it, and the manifest
// from which krew installs them, which it then has krew do. The same source and the same Go give the same bytes in any folder.
//
// usage: go run ./tools/release v1.2.3      into bin/release (make release VERSION=v1.2.3)
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/version"
)

// home is where releases are published.
const home = "https://github.com/cni-cutover/cni-cutover"

// platform is what a program is built for, in Go's words, which are krew's too.
type platform struct{ OS, Arch string }

// platforms are those that kubectl is published for and people sit at.
func platforms() []platform {
	return []platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}, {"windows", "arm64"}}
}

// Program is the file name of the plugin.
func (p platform) Program() string {
	if p.OS == "windows" {
		return "kubectl-cutover.exe"
	}
	return "kubectl-cutover"
}

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("reading the arguments: want a version alone, as v1.2.3; make release VERSION=v1.2.3")
	}
	out := filepath.Join("bin", "release")
	if err := os.RemoveAll(out); err != nil {
		return fmt.Errorf("emptying %s: %w", out, err)
	}
	archives, err := release(ctx, ".", out, args[0], platforms())
	if err != nil {
		return err
	}
	for _, a := range archives {
		if err := try(ctx, "bin", out, a); err != nil {
			return err
		}
		fmt.Printf("%s  %s\n", a.SHA256, filepath.Join(out, a.File))
	}
	return nil
}

// release writes archives of the plugin and their manifest into a folder; root is that of the repository.
func release(ctx context.Context, root, out, tag string, platforms []platform) ([]archive, error) {
	if _, err := version.ParseSemantic(tag); err != nil || !strings.HasPrefix(tag, "v") {
		return nil, fmt.Errorf("reading the version %q: want one as v1.2.3 (semver.org), which krew compares", tag)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the release: %w", err)
	}
	var archives []archive
	for _, p := range platforms {
		a, err := build(ctx, root, out, tag, p)
		if err != nil {
			return nil, fmt.Errorf("releasing for %s/%s: %w", p.OS, p.Arch, err)
		}
		archives = append(archives, a)
	}
	text, err := manifest(tag, archives)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(out, manifestFile), text, 0o644); err != nil {
		return nil, fmt.Errorf("writing the manifest: %w", err)
	}
	return archives, nil
}

// build compiles the plugin for a platform and packs it.
func build(ctx context.Context, root, out, tag string, p platform) (archive, error) {
	dir, err := os.MkdirTemp("", "release-")
	if err != nil {
		return archive{}, fmt.Errorf("making a folder to build in: %w", err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, p.Program())
	compile := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+tag, "-o", program, "./cmd/kubectl-cutover")
	compile.Dir = root
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=")
	if said, err := compile.CombinedOutput(); err != nil {
		return archive{}, fmt.Errorf("building the plugin: %w\n%s", err, said)
	}
	return pack(out, tag, p, []string{program, filepath.Join(root, "LICENSE")})
}

// try installs the plugin from an archive and the manifest with krew, as a person of that platform would, in a folder that is
// removed. No network is used.
func try(ctx context.Context, tools, out string, a archive) error {
	root, err := os.MkdirTemp("", "krew-")
	if err != nil {
		return fmt.Errorf("making a folder for krew: %w", err)
	}
	defer os.RemoveAll(root)
	if err := install(ctx, tools, out, root, a); err != nil {
		return err
	}
	for _, name := range []string{a.Program(), "LICENSE"} {
		found, err := filepath.Glob(filepath.Join(root, "store", "cutover", "*", name))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("trying %s: krew installed no %s from it", a.File, name)
		}
	}
	return nil
}

// install has krew judge the manifest and install the plugin from an archive into root.
func install(ctx context.Context, tools, out, root string, a archive) error {
	manifest := filepath.Join(out, manifestFile)
	for _, args := range [][]string{
		{"validate-krew-manifest", "-manifest", manifest, "-skip-install"},
		{"krew", "install", "--manifest", manifest, "--archive", filepath.Join(out, a.File)},
	} {
		cmd := exec.CommandContext(ctx, filepath.Join(tools, args[0]), args[1:]...)
		cmd.Env = append(os.Environ(), "KREW_ROOT="+root, "KREW_OS="+a.OS, "KREW_ARCH="+a.Arch, "KREW_NO_UPGRADE_CHECK=1")
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("running %s (tools/install krew builds it): %w\n%s", strings.Join(args, " "), err, said)
		}
	}
	return nil
}
