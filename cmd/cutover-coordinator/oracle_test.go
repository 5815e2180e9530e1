// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"github.com/cni-cutover/cni-cutover/internal/oracle"
)

// books is what the API server's audit log says since a roll began.
type books struct {
	t    *testing.T
	from int64 // offset of the roll in the log, in bytes
}

// openBooks must be called before the first node joins: the oracle knows only what it has seen.
func openBooks(t *testing.T) books {
	t.Helper()
	log, err := os.Stat(server.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	return books{t, log.Size()}
}

func (b books) each(see func(*oracle.Event)) {
	b.t.Helper()
	if err := oracle.ReadFileFrom(server.AuditLog(), b.from, see); err != nil {
		b.t.Fatal(err)
	}
}

// evicted is how many Evictions a coordinator has asked for.
func (b books) evicted() (count int) {
	b.t.Helper()
	b.each(func(e *oracle.Event) {
		if e.What() == "pods/eviction" && e.By(oracle.Coordinator) {
			count++
		}
	})
	return count
}

// judged holds the roll against the laws. Where the oracle had nothing to judge it has proved nothing, so at least so many
// ledgers and evictions must have been written.
func (b books) judged(ledgers, evictions int) {
	b.t.Helper()
	var judge oracle.Oracle
	seen := 0
	b.each(func(e *oracle.Event) {
		judge.See(e)
		if e.What() == "cutovers/status" && e.Write() && e.Done() && e.By(oracle.Coordinator) {
			seen++
		}
	})
	for _, v := range judge.Violations() {
		b.t.Errorf("a law was broken: %s", v)
	}
	if s := judge.Seen(); seen < ledgers || s.Evictions < evictions || s.Grants == 0 || s.LegacyStatus == 0 {
		b.t.Errorf("the audit log shows %d ledgers and %+v, want at least %d ledgers and %d evictions", seen, s, ledgers, evictions)
	}
}
