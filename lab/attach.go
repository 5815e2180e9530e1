// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cni-cutover/cni-cutover/lab/guardian"
	"github.com/cni-cutover/cni-cutover/lab/supervisor"
)

// stateFile in the state directory tells other processes what the supervisor does not know.
const stateFile = "cluster.json"

type state struct {
	Dir   string
	Zones []string
}

func writeState(c *Cluster) error {
	content, err := json.Marshal(state{c.dir, c.zones})
	if err == nil {
		err = os.WriteFile(filepath.Join(c.state, stateFile), content, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing the lab's state: %w", err)
	}
	return nil
}

// Attach uses a lab that another process owns. dir is its state directory; when it is
// empty there must be exactly one lab on the machine. Stop only lets go of it.
func Attach(ctx context.Context, dir string) (*Cluster, error) {
	if dir == "" {
		found, err := filepath.Glob(filepath.Join(os.TempDir(), guardian.Prefix+"*", supervisor.Socket))
		if err != nil {
			return nil, err
		}
		if len(found) != 1 {
			return nil, fmt.Errorf("looking for a lab: found %d, need one: %q: say which directory", len(found), found)
		}
		dir = filepath.Dir(found[0])
	}
	content, err := os.ReadFile(filepath.Join(dir, stateFile))
	var told state
	if err == nil {
		err = json.Unmarshal(content, &told)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the state of the lab in %s: %w", dir, err)
	}
	conn, err := supervisor.Connect(ctx, dir, nil)
	if err != nil {
		return nil, err
	}
	c := &Cluster{state: dir, dir: told.Dir, zones: told.Zones}
	if err := c.use(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// State is the directory by which Attach finds this lab.
func (c *Cluster) State() string { return c.state }
