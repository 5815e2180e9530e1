// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWholeAsksUntilTheListIsWhole(t *testing.T) {
	refused := errors.New("refused")
	for _, test := range []struct {
		name        string
		interrupted int // how many answers are cut short
		then        error
		want        error
		asked       int
	}{
		{"whole at once", 0, nil, nil, 1},
		{"interrupted twice", 2, nil, nil, 3},
		{"another error is not asked again", 1, refused, refused, 2},
		{"never whole", tries + 1, nil, netlink.ErrDumpInterrupted, tries},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := 0
			got, err := Whole(func() ([]int, error) {
				asked++
				if asked <= test.interrupted {
					return []int{1}, netlink.ErrDumpInterrupted
				}
				return []int{1, 2}, test.then
			})
			if !errors.Is(err, test.want) || asked != test.asked {
				t.Errorf("asked %d times and got %v; want %d and %v", asked, err, test.asked, test.want)
			}
			if err == nil && len(got) != 2 {
				t.Errorf("got the list %v that was cut short", got)
			}
		})
	}
}
