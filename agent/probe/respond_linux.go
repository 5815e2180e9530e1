// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// Limits of a responder. An honest cluster asks a node a few hundred questions a minute at most; see the package comment.
const (
	perSecond = 2000
	burst     = 1000
)

// Respond answers questions on a UDP port, on every address of this host, until ctx ends. keys are asked for at each question.
func Respond(ctx context.Context, port int, keys func() Keys) error {
	config := net.ListenConfig{}
	opened, err := config.ListenPacket(ctx, "udp4", fmt.Sprintf(":%d", port))
	if err != nil {
		return fmt.Errorf("listening for probes (another program may hold the port): %w", err)
	}
	conn := opened.(*net.UDPConn)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	if err := prepare(conn); err != nil {
		return err
	}
	limit := rate.NewLimiter(perSecond, burst)
	question, control := make([]byte, 1<<16), make([]byte, 128)
	for {
		n, oob, _, from, err := conn.ReadMsgUDPAddrPort(question, control)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("listening for probes: %w", err)
			}
			continue
		}
		back := answer(question[:n], keys())
		if back == nil || !limit.Allow() {
			continue
		}
		// An answer that this host's NIC does not take, or that has no way, is not heard: that is what is asked about.
		_, _, _ = conn.WriteMsgUDPAddrPort(back, source(control[:oob]), from)
	}
}

// prepare lets answers go out with DF, whatever the kernel has heard of the path, and from the address that was asked.
func prepare(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("preparing the socket of the responder: %w", err)
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1),
		)
	})
	if err := errors.Join(err, set); err != nil {
		return fmt.Errorf("preparing the socket of the responder: %w", err)
	}
	return nil
}

// source makes the address that a question came to the one that its answer goes out from (ip(7): IP_PKTINFO). The interface is left to
// the routes: what came by one NIC may have to leave by another.
func source(control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo {
			// struct in_pktinfo: interface, address to answer from, address that was in the packet.
			return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[4:8])})
		}
	}
	return nil
}
