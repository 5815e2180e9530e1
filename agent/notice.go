// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Notice calls changed whenever the runtime's net.d, an interface, a route or a rule of the host changes, until ctx ends.
// Neither watch is needed to be right, only to be quick: what they miss, the next look at the interval sees.
func Notice(ctx context.Context, confDir string, changed func(), log *slog.Logger) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		noticeNetwork(ctx, changed, log)
	}()
	noticeDir(ctx, confDir, changed, log)
	<-done
}

// again is how long a watch that broke waits before it is set up again.
const again = 5 * time.Second

// noticeNetwork listens to rtnetlink, which asks for no capability. An overflow of its buffer is a change too.
func noticeNetwork(ctx context.Context, changed func(), log *slog.Logger) {
	for ctx.Err() == nil {
		s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE)
		if err != nil {
			log.Warn("not watching the host's network; trying again", "error", err)
			pause(ctx, again)
			continue
		}
		stop := context.AfterFunc(ctx, s.Close)
		for {
			_, _, err := s.Receive()
			if ctx.Err() != nil {
				return
			}
			changed()
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				break
			}
		}
		if stop() {
			s.Close()
		}
		pause(ctx, again)
	}
}

// noticeDir watches the directory, or, as long as it is not there, its nearest ancestor that is. The watch follows the inode, so
// a directory that is removed and made again is found again by its parent, or at the latest by the ticker.
func noticeDir(ctx context.Context, dir string, changed func(), log *slog.Logger) {
	for ctx.Err() == nil {
		w, err := fsnotify.NewWatcher()
		if err == nil {
			watchDir(ctx, w, dir, changed)
			return
		}
		// A node full of kubelets and log shippers can run out of fs.inotify.max_user_instances (128 by default for root).
		log.Warn("not watching the CNI directory, which is still read at every look; trying again", "error", err)
		pause(ctx, again)
	}
}

func watchDir(ctx context.Context, w *fsnotify.Watcher, dir string, changed func()) {
	defer w.Close()
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		follow(w, dir)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case _, ok := <-w.Events:
			if !ok {
				return
			}
			changed()
		case _, ok := <-w.Errors: // an overflow: something changed
			if !ok {
				return
			}
			changed()
		}
	}
}

// follow makes the directory, or its nearest ancestor, the only thing that is watched.
func follow(w *fsnotify.Watcher, dir string) {
	target := dir
	for {
		if st, err := os.Stat(target); err == nil && st.IsDir() {
			break
		}
		parent := filepath.Dir(target)
		if parent == target {
			break
		}
		target = parent
	}
	for _, old := range w.WatchList() {
		if old != target {
			_ = w.Remove(old) // gone already, at worst
		}
	}
	_ = w.Add(target) // a target that went away in between is followed at the next tick
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
