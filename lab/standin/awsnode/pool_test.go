// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cni-cutover/cni-cutover/lab/vpc"
)

func planned(t *testing.T) []vpc.Interface {
	t.Helper()
	enis, err := vpc.NodeInterfaces(1)
	if err != nil {
		t.Fatal(err)
	}
	return enis
}

func box(n int) sandbox {
	return sandbox{NetworkName: "aws-cni", ContainerID: fmt.Sprint(n), IfName: "eth0"}
}

func TestPodsAlternateBetweenInterfacesUntilNoAddressIsLeft(t *testing.T) {
	p := newPool(planned(t), nil)
	for n := range p.capacity() {
		got, err := p.assign(box(n), podName{"default", fmt.Sprint(n)}, time.Unix(int64(n), 0))
		if err != nil {
			t.Fatalf("pod %d: %v", n, err)
		}
		if got.DeviceNumber != n%2 {
			t.Errorf("pod %d came to interface %d", n, got.DeviceNumber)
		}
	}
	if got, err := p.assign(box(99), podName{"default", "late"}, time.Unix(99, 0)); !errors.Is(err, errNoAddress) {
		t.Errorf("a pod beyond the capacity got %v, %v", got, err)
	}
	again, err := p.assign(box(3), podName{"default", "3"}, time.Unix(100, 0))
	if want, _ := p.lookup(box(3)); err != nil || again != want {
		t.Errorf("asking again gave %v, %v; want %v", again, err, want)
	}
}

func TestAddressReleasedLastIsUsedLast(t *testing.T) {
	p := newPool(planned(t)[:1], nil)
	var last netip.Addr
	for n := range 10 {
		got, err := p.assign(box(n), podName{}, time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		last = got.IP
	}
	p.release(box(9), time.Unix(10, 0))
	p.release(box(0), time.Unix(20, 0))
	if got, err := p.assign(box(10), podName{}, time.Unix(30, 0)); err != nil || got.IP != last {
		t.Errorf("got %v, %v; want %s, which has been free longest", got, err, last)
	}
}

func TestPoolForgetsAllocationsThatTheInstanceDoesNotOwn(t *testing.T) {
	p := newPool(planned(t), []allocation{
		{sandbox: box(1), IPv4: netip.MustParseAddr("10.0.1.21")},
		{sandbox: box(2), IPv4: netip.MustParseAddr("10.0.9.21")},
	})
	if list := p.list(); len(list) != 1 || list[0].sandbox != box(1) {
		t.Errorf("kept %v", list)
	}
}
