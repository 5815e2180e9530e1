// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

// keepLiving drops the allocations of pods that went while nobody listened: the host's
// side of their veth pair is gone. Their rules go too, or the next pod with that address
// would inherit them.
func keepLiving(known []allocation, interfaces []vpc.Interface, vethPrefix string, log *slog.Logger) ([]allocation, error) {
	var living []allocation
	locate := newPool(interfaces, nil)
	for _, a := range known {
		_, err := netlink.LinkByName(hostVeth(vethPrefix, a.Pod))
		if err == nil {
			living = append(living, a)
			continue
		}
		if !errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil, fmt.Errorf("looking for the interface of pod %s/%s: %w", a.Pod.Namespace, a.Pod.Name, err)
		}
		log.Info("dropping the allocation of a pod that is gone", "pod", a.Pod, "address", a.IPv4)
		at, owned := locate.locate(a.IPv4)
		if !owned || shared(known, a) {
			continue
		}
		if err := unroutePod(a.IPv4, routingTable(at.DeviceNumber)); err != nil {
			return nil, err
		}
	}
	return living, nil
}

// shared says whether another allocation has the same address; a checkpoint written by us never does.
func shared(known []allocation, a allocation) bool {
	holders := map[netip.Addr]int{}
	for _, other := range known {
		holders[other.IPv4]++
	}
	return holders[a.IPv4] > 1
}
