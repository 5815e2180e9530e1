// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// checkpointVersion is the form of the file (amazon-vpc-cni-k8s, pkg/ipamd/datastore).
const checkpointVersion = "vpc-cni-ipam/1"

// CheckpointFile holds the allocations, so that a restart keeps them. Relative to the run directory.
const CheckpointFile = "ipam.json"

type checkpoint struct {
	Version     string       `json:"version"`
	Allocations []allocation `json:"allocations"`
}

// readCheckpoint returns nothing when there is no file: the node is new.
func readCheckpoint(path string) ([]allocation, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint: %w", err)
	}
	return parseCheckpoint(data)
}

func parseCheckpoint(data []byte) ([]allocation, error) {
	var c checkpoint
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("parsing the checkpoint: %w", err)
	}
	if c.Version != checkpointVersion {
		return nil, fmt.Errorf("parsing the checkpoint: version %q, want %q", c.Version, checkpointVersion)
	}
	return c.Allocations, nil
}

func writeCheckpoint(path string, allocations []allocation) error {
	if allocations == nil {
		allocations = []allocation{}
	}
	data, err := json.Marshal(checkpoint{checkpointVersion, allocations})
	if err != nil {
		return fmt.Errorf("encoding the checkpoint: %w", err)
	}
	return replaceFile(path, data, 0o600)
}

// replaceFile writes beside the target and renames within the directory: a reader never
// sees half a file, and containerd, which ignores Create events, sees a Rename.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = temporary.Write(data)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(temporary.Name()))
	}
	return nil
}
