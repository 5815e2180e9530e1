// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArchiveIsAnOCILayoutWhoseDigestsHold(t *testing.T) {
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	described := Image{
		Ref: "lab/test:dev", Entrypoint: []string{"/bin/program"}, Env: []string{"A=b"},
		Files: []File{{Path: "/bin/program", Source: program}, {Path: "/etc/one/two", Content: []byte("text")}},
	}
	var first, second bytes.Buffer
	if err := errors.Join(Write(&first, described), Write(&second, described)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same image gave two archives")
	}
	blobs, _ := untar(t, first.Bytes())
	var index, manifest struct {
		Manifests []descriptor `json:"manifests"`
		Config    descriptor   `json:"config"`
		Layers    []descriptor `json:"layers"`
	}
	decode(t, blobs["index.json"], &index)
	if got := index.Manifests[0].Annotations["io.containerd.image.name"]; got != "docker.io/lab/test:dev" {
		t.Errorf("containerd would call the image %q", got)
	}
	decode(t, blob(t, blobs, index.Manifests[0]), &manifest)
	var config struct {
		Config struct{ Entrypoint, Env []string } `json:"config"`
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		} `json:"rootfs"`
	}
	decode(t, blob(t, blobs, manifest.Config), &config)
	if diff := cmp.Diff([]string{manifest.Layers[0].Digest}, config.RootFS.DiffIDs); diff != "" {
		t.Errorf("layers of the config differ from the manifest's (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"PATH=/bin:/", "A=b"}, config.Config.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	files, modes := untar(t, blob(t, blobs, manifest.Layers[0]))
	want := map[string]int64{"bin/": 0o755, "bin/program": 0o755, "etc/": 0o755, "etc/one/": 0o755, "etc/one/two": 0o644}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("modes in the layer (-want +got):\n%s", diff)
	}
	if got := string(files["bin/program"]); got != "binary" {
		t.Errorf("the program is %q", got)
	}
}

func TestWriteRefusesWhatCannotRun(t *testing.T) {
	for name, image := range map[string]Image{
		"no name":        {Entrypoint: []string{"/x"}},
		"no entry point": {Ref: "x"},
		"relative path":  {Ref: "x", Entrypoint: []string{"/x"}, Files: []File{{Path: "x"}}},
		"missing source": {Ref: "x", Entrypoint: []string{"/x"}, Files: []File{{Path: "/x", Source: "/does/not/exist"}}},
	} {
		if err := Write(io.Discard, image); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

func TestCanonicalNamesAreTheKubelets(t *testing.T) {
	for short, want := range map[string]string{
		"pause":                    "docker.io/library/pause",
		"lab/app:dev":              "docker.io/lab/app:dev",
		"quay.io/cilium/cilium:v1": "quay.io/cilium/cilium:v1",
		"localhost/x":              "localhost/x",
		"registry:5000/x":          "registry:5000/x",
	} {
		if got := Canonical(short); got != want {
			t.Errorf("%s became %s, want %s", short, got, want)
		}
	}
}

func untar(t *testing.T, archive []byte) (map[string][]byte, map[string]int64) {
	t.Helper()
	contents, modes := map[string][]byte{}, map[string]int64{}
	for reader := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return contents, modes
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		contents[header.Name], modes[header.Name] = content, header.Mode
	}
}

func blob(t *testing.T, blobs map[string][]byte, d descriptor) []byte {
	t.Helper()
	content := blobs["blobs/sha256/"+d.Digest[len("sha256:"):]]
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(content)); got != d.Digest || len(content) != d.Size {
		t.Fatalf("blob %s of %d bytes has digest %s and %d bytes", d.Digest, d.Size, got, len(content))
	}
	return content
}

func decode(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("reading %q: %v", text, err)
	}
}
