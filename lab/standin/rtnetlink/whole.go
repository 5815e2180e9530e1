// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package rtnetlink reads the kernel's lists of links, addresses, routes and rules whole.
package rtnetlink

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// tries is more than any list needed here while pods came and went as fast as this machine could make them.
const tries = 20

// Whole asks again as long as the kernel says that the list changed while it was read (NLM_F_DUMP_INTR), for then
// entries may be missing from it. It returns [netlink.ErrDumpInterrupted] if that never ends.
func Whole[T any](list func() ([]T, error)) ([]T, error) {
	for attempt := 1; ; attempt++ {
		found, err := list()
		if attempt == tries || !errors.Is(err, netlink.ErrDumpInterrupted) {
			return found, err
		}
	}
}
