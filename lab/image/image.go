// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package image writes container images from files that are already built, without a
// builder or a registry: an OCI image layout with one layer, as a tar archive that
// containerd and buildah import.
// https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md
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
	"path"
	"runtime"
	"slices"
	"strings"
)

// Image is an image FROM scratch.
type Image struct {
	// Ref is its name and tag, for example "lab/app:dev"; containerd and the kubelet call
	// that docker.io/lab/app:dev.
	Ref        string
	Files      []File
	Entrypoint []string
	Env        []string
}

// File is a regular file in the image.
type File struct {
	Path    string // in the image, absolute
	Source  string // on this machine; its permissions are kept
	Content []byte // used when Source is empty, with mode 0644
}

// WriteFile writes the archive to a file, in one step.
func WriteFile(name string, image Image) error {
	out, err := os.CreateTemp(path.Dir(name), ".image-*")
	if err != nil {
		return fmt.Errorf("writing image %s: %w", image.Ref, err)
	}
	err = errors.Join(Write(out, image), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing image %s: %w", image.Ref, err), os.Remove(out.Name()))
	}
	return nil
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Write writes the archive. The same image gives the same bytes.
func Write(w io.Writer, image Image) error {
	if image.Ref == "" || len(image.Entrypoint) == 0 {
		return fmt.Errorf("describing image %q: it needs a name and an entry point", image.Ref)
	}
	layer, err := layer(image.Files)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	blob := func(mediaType string, content []byte) (descriptor, error) {
		digest := fmt.Sprintf("%x", sha256.Sum256(content))
		return descriptor{MediaType: mediaType, Digest: "sha256:" + digest, Size: len(content)}, add(archive, "blobs/sha256/"+digest, 0o644, content)
	}
	// The layer is not compressed: every node unpacks it, and none fetches it over a network.
	layerBlob, err := blob("application/vnd.oci.image.layer.v1.tar", layer)
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": image.Entrypoint, "Env": slices.Concat([]string{"PATH=/bin:/"}, image.Env), "WorkingDir": "/"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layerBlob.Digest}},
	})
	if err != nil {
		return err
	}
	configBlob, err := blob("application/vnd.oci.image.config.v1+json", config)
	if err != nil {
		return err
	}
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": configBlob, "layers": []descriptor{layerBlob}})
	if err != nil {
		return err
	}
	manifestBlob, err := blob(manifestType, manifest)
	if err != nil {
		return err
	}
	manifestBlob.Annotations = map[string]string{"io.containerd.image.name": Canonical(image.Ref), "org.opencontainers.image.ref.name": Canonical(image.Ref)}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []descriptor{manifestBlob}})
	if err != nil {
		return err
	}
	return errors.Join(
		add(archive, "index.json", 0o644, index),
		add(archive, "oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)),
		archive.Close(),
	)
}

// Canonical completes a short name as Docker, containerd and the kubelet do: "lab/app:dev"
// is "docker.io/lab/app:dev".
func Canonical(ref string) string {
	host, rest, slash := strings.Cut(ref, "/")
	switch {
	case !slash:
		return "docker.io/library/" + ref
	case rest != "" && (strings.ContainsAny(host, ".:") || host == "localhost"):
		return ref
	default:
		return "docker.io/" + ref
	}
}

func layer(files []File) ([]byte, error) {
	var buffer bytes.Buffer
	archive := tar.NewWriter(&buffer)
	made := map[string]bool{"/": true}
	for _, file := range files {
		if !path.IsAbs(file.Path) {
			return nil, fmt.Errorf("adding %q to the image: its path must be absolute", file.Path)
		}
		if err := addParents(archive, path.Dir(path.Clean(file.Path)), made); err != nil {
			return nil, err
		}
		content, mode := file.Content, os.FileMode(0o644)
		if file.Source != "" {
			info, err := os.Stat(file.Source)
			if err == nil {
				content, err = os.ReadFile(file.Source)
			}
			if err != nil {
				return nil, fmt.Errorf("adding %s to the image: %w", file.Path, err)
			}
			mode = info.Mode().Perm()
		}
		if err := add(archive, strings.TrimPrefix(path.Clean(file.Path), "/"), mode, content); err != nil {
			return nil, err
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("closing the image's layer: %w", err)
	}
	return buffer.Bytes(), nil
}

func addParents(archive *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := addParents(archive, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755})
}

func add(archive *tar.Writer, name string, mode os.FileMode, content []byte) error {
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: int64(mode), Size: int64(len(content))}); err != nil {
		return fmt.Errorf("adding %s to the archive: %w", name, err)
	}
	if _, err := archive.Write(content); err != nil {
		return fmt.Errorf("adding %s to the archive: %w", name, err)
	}
	return nil
}
