// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed cutover.yaml.tmpl
var manifestTemplate string

// manifestFile is the manifest's name: krew wants the plugin's.
const manifestFile = "cutover.yaml"

// archive is the plugin for one platform as it is published.
type archive struct {
	platform
	// File is its name, SHA256 its sum in hexadecimal digits.
	File, SHA256 string
}

// manifest is krew's for a version.
func manifest(tag string, archives []archive) ([]byte, error) {
	var out bytes.Buffer
	t, err := template.New(manifestFile).Option("missingkey=error").Parse(manifestTemplate)
	if err == nil {
		err = t.Execute(&out, struct {
			Version, Home string
			Archives      []archive
		}{tag, home, archives})
	}
	if err != nil {
		return nil, fmt.Errorf("filling in the manifest: %w", err)
	}
	return out.Bytes(), nil
}

// pack writes files into an archive.
func pack(out, tag string, p platform, files []string) (archive, error) {
	a := archive{platform: p, File: fmt.Sprintf("kubectl-cutover_%s_%s_%s.tar.gz", tag, p.OS, p.Arch)}
	file, err := os.Create(filepath.Join(out, a.File))
	if err != nil {
		return a, fmt.Errorf("packing %s: %w", a.File, err)
	}
	sum := sha256.New()
	err = errors.Join(write(io.MultiWriter(file, sum), files), file.Close())
	if err != nil {
		return a, fmt.Errorf("packing %s: %w", a.File, err)
	}
	a.SHA256 = fmt.Sprintf("%x", sum.Sum(nil))
	return a, nil
}

// write writes a gzipped tar archive in which nothing stands but names and contents: no owner, no time, no folder. The first
// file is a program.
func write(w io.Writer, files []string) error {
	zipped, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	packed := tar.NewWriter(zipped)
	for i, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		header := &tar.Header{Name: filepath.Base(name), Mode: 0o644, Size: int64(len(data)), Format: tar.FormatUSTAR}
		if i == 0 {
			header.Mode = 0o755
		}
		if err := packed.WriteHeader(header); err != nil {
			return err
		}
		if _, err := packed.Write(data); err != nil {
			return err
		}
	}
	return errors.Join(packed.Close(), zipped.Close())
}
