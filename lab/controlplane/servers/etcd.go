// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/cni-cutover/cni-cutover/lab/controlplane/pki"
)

// etcdSocket is where etcd listens: no port to collide with another laboratory's, none to protect.
func etcdSocket(d pki.Dir) string { return filepath.Join(string(d), "etcd.sock") }

func etcdURL(d pki.Dir) url.URL { return url.URL{Scheme: "unix", Path: etcdSocket(d)} }

// runEtcd runs a single-member etcd until ctx ends and calls started once it answers.
func runEtcd(ctx context.Context, d pki.Dir, started func()) error {
	config := embed.NewConfig()
	config.Dir = filepath.Join(string(d), "etcd")
	config.ListenClientUrls = []url.URL{etcdURL(d)}
	// A single member talks to no peer. It needs a peer's name all the same, and nobody ever dials it.
	config.ListenPeerUrls = nil
	config.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:1"}}
	config.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "localhost:1"}}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	// A laboratory outlives no power cut, and waiting for the disk is most of a write.
	config.UnsafeNoFsync = true
	config.QuotaBackendBytes = 4 << 30
	config.AutoCompactionMode = embed.CompactorModePeriodic
	config.AutoCompactionRetention = "10m"
	config.LogLevel = "error"
	config.LogOutputs = []string{embed.StdErrLogOutput}

	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("starting etcd in %s: %w", config.Dir, err)
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
		started()
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return fmt.Errorf("starting etcd in %s: %w", config.Dir, err)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.Err():
		return fmt.Errorf("serving etcd: %w", err)
	case <-server.Server.StopNotify():
		return errors.New("etcd stopped on its own; its log on stderr says why")
	}
}
