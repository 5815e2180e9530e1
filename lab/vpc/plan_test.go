// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"net/netip"
	"testing"
)

func TestEveryAddressOfTheVPCBelongsToOneInterface(t *testing.T) {
	owner, hardware := map[netip.Addr]string{}, map[string]string{}
	claim := func(who string, eni Interface) {
		t.Helper()
		if !CIDR().Contains(eni.Gateway) || !eni.Subnet.Contains(eni.Gateway) {
			t.Errorf("%s: gateway %s is outside %s", who, eni.Gateway, eni.Subnet)
		}
		for _, address := range eni.Addresses() {
			if !eni.Subnet.Contains(address) || address == eni.Gateway {
				t.Errorf("%s: address %s does not fit subnet %s, gateway %s", who, address, eni.Subnet, eni.Gateway)
			}
			if other, taken := owner[address]; taken {
				t.Errorf("%s and %s both own %s", who, other, address)
			}
			owner[address] = who
		}
		if other, taken := hardware[eni.MAC]; taken {
			t.Errorf("%s and %s both have %s", who, other, eni.MAC)
		}
		hardware[eni.MAC] = who
	}
	claim("control plane", HostInterface(2))
	claim("client", HostInterface(10))
	for subnet := 1; subnet <= MaxSubnets; subnet++ {
		enis, err := NodeInterfaces(subnet)
		if err != nil {
			t.Fatal(err)
		}
		for _, eni := range enis {
			claim(eni.Subnet.String()+eni.Name, eni)
		}
	}
}

func TestPlanRefusesSubnetsOutsideTheVPC(t *testing.T) {
	for _, subnet := range []int{-1, 0, MaxSubnets + 1} {
		if _, err := NodeInterfaces(subnet); err == nil {
			t.Errorf("subnet %d was planned", subnet)
		}
	}
}
