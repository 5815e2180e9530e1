// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

// InstanceFile is where a lab node keeps what EC2's metadata service would say, as JSON of
// a [vpc.Instance]; the path is relative to the host's root.
const InstanceFile = "etc/lab/instance.json"

func readInstance(path string) (vpc.Instance, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return vpc.Instance{}, fmt.Errorf("reading the instance's metadata: %w", err)
	}
	return parseInstance(data)
}

// parseInstance refuses what the daemon could not configure: no primary interface, two
// interfaces of one number, anything but IPv4.
func parseInstance(data []byte) (vpc.Instance, error) {
	var instance vpc.Instance
	if err := json.Unmarshal(data, &instance); err != nil {
		return vpc.Instance{}, fmt.Errorf("parsing the instance's metadata: %w", err)
	}
	if len(instance.VPCCIDRs) == 0 {
		return vpc.Instance{}, errors.New("reading the instance's metadata: vpcCidrs is empty: name the VPC's CIDR")
	}
	for _, cidr := range instance.VPCCIDRs {
		if !cidr.IsValid() || !cidr.Addr().Is4() {
			return vpc.Instance{}, fmt.Errorf("reading the instance's metadata: VPC CIDR %s is not IPv4", cidr)
		}
	}
	seen := map[int]bool{}
	for _, eni := range instance.Interfaces {
		if eni.DeviceNumber < 0 || eni.DeviceNumber > 250 || seen[eni.DeviceNumber] {
			return vpc.Instance{}, fmt.Errorf("reading the instance's metadata: device number %d is repeated or outside 0 to 250", eni.DeviceNumber)
		}
		seen[eni.DeviceNumber] = true
		if !eni.Subnet.IsValid() || eni.MAC == "" {
			return vpc.Instance{}, fmt.Errorf("reading the instance's metadata: interface %d lacks its subnet or its MAC", eni.DeviceNumber)
		}
		for _, address := range append([]netip.Addr{eni.Gateway}, eni.Addresses()...) {
			if !address.Is4() || !eni.Subnet.Contains(address) {
				return vpc.Instance{}, fmt.Errorf("reading the instance's metadata: interface %d: address %s is not in subnet %s", eni.DeviceNumber, address, eni.Subnet)
			}
		}
	}
	if !seen[0] {
		return vpc.Instance{}, errors.New("reading the instance's metadata: no interface has device number 0")
	}
	return instance, nil
}

// primary returns the interface with device number 0; parseInstance made sure there is one.
func primary(instance vpc.Instance) vpc.Interface {
	for _, eni := range instance.Interfaces {
		if eni.DeviceNumber == 0 {
			return eni
		}
	}
	return vpc.Interface{}
}

// routingTable is the table for traffic from addresses of an interface: main for the
// primary one, device number + 1 for the others.
func routingTable(deviceNumber int) int {
	if deviceNumber == 0 {
		return mainTable
	}
	return deviceNumber + 1
}
