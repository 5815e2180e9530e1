// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// conflist is what Cilium 1.18 writes to 05-cilium.conflist, to the byte: a leading newline and no last one.
const conflist = `
{
  "cniVersion": "0.3.1",
  "name": "cilium",
  "plugins": [
    {
       "type": "cilium-cni",
       "enable-debug": false,
       "log-file": "/var/run/cilium/cilium-cni.log"
    }
  ]
}`

func writeConflist(path string) error { return replaceFile(path, []byte(conflist), 0o600) }

// takeOver renames every other configuration in the directory of own, so that no runtime reads it.
func takeOver(own string) error {
	dir := filepath.Dir(own)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading the CNI directory: %w", err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || name == filepath.Base(own) || name[0] == '.' ||
			!slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(name)) {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.Rename(path, path+".cilium_bak"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("putting %s aside: %w", path, err)
		}
	}
	return nil
}

// guardConflist keeps the directory to ourselves until ctx ends: others are put aside as they
// appear, our file is written again when it is gone or changed.
func guardConflist(ctx context.Context, own string) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching the CNI directory: %w", err)
	}
	defer watcher.Close()
	if err := watcher.Add(filepath.Dir(own)); err != nil {
		return fmt.Errorf("watching the CNI directory: %w", err)
	}
	for {
		if content, err := os.ReadFile(own); err != nil || !bytes.Equal(content, []byte(conflist)) {
			if err := writeConflist(own); err != nil {
				return err
			}
		}
		if err := takeOver(own); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-watcher.Errors:
			return fmt.Errorf("watching the CNI directory: %w", err)
		case <-watcher.Events:
		}
	}
}
