// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// wait is how long answers are waited for, and patience where none would be taken for a narrow path. Both are many round trips:
	// agents on a busy node are late, and a path must not look narrow for that.
	wait     = 120 * time.Millisecond
	patience = 400 * time.Millisecond
	// copies of each size are sent, so that one lost packet decides nothing.
	copies = 2
	// headers are those of IPv4 and UDP, in bytes.
	headers = 20 + 8
	// least is the smallest packet that is tried, in bytes: every IPv4 host takes it (RFC 791).
	least = 576
)

// line is a UDP socket to one peer that sends with DF and hears what routers say of its packets.
type line struct {
	fd    int
	keys  Keys
	kind  kind
	first uint64 // id of the size 0; each size has an id of its own, so that an answer says which it is to
	heard heard
	// answers counts those that came, copies and all.
	answers int
	buf     [1 << 16]byte
}

func dial(to netip.AddrPort, keys Keys, k kind) (*line, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket for probes: %w", err)
	}
	l := &line{fd: fd, keys: keys, kind: k, first: rand.Uint64() &^ 0xffff, heard: heard{answered: map[int]bool{}}}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1),
		unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing a socket for probes to %s: %w", to, err), l.close())
	}
	return l, nil
}

func (l *line) close() error { return unix.Close(l.fd) }

// ask is an asker. It ends early when the context does.
func (l *line) ask(ctx context.Context) asker {
	return func(sizes []int, patient bool) heard {
		l.heard.told = 0
		for range copies {
			for _, size := range sizes {
				l.send(size)
			}
		}
		end := time.Now().Add(wait)
		if patient {
			end = time.Now().Add(patience)
		}
		for !l.settled(sizes) && ctx.Err() == nil {
			left := time.Until(end)
			if left <= 0 {
				break
			}
			fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, int(left/time.Millisecond)+1); err != nil && !errors.Is(err, unix.EINTR) {
				break
			}
			l.receive()
		}
		return l.heard
	}
}

// settled says whether something was heard of every size.
func (l *line) settled(sizes []int) bool {
	for _, size := range sizes {
		if !l.heard.answered[size] && (l.heard.told == 0 || size <= l.heard.told) {
			return false
		}
	}
	return true
}

// send sends one packet of a size. An error about an earlier packet is handed out instead of sending this one, so it is sent again;
// a second one about the size means that this node's own NIC does not take it.
func (l *line) send(size int) {
	b := encode(message{kind: l.kind, size: uint16(size - headers), id: l.first | uint64(size)}, size-headers, l.keys)
	for range 3 {
		if _, err := unix.Write(l.fd, b); err == nil {
			return
		}
		l.errors()
	}
}

// receive takes in all that has come.
func (l *line) receive() {
	l.errors()
	for {
		n, err := unix.Read(l.fd, l.buf[:])
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EBADF) {
			return
		}
		if err != nil { // about a packet that was sent
			l.errors()
			continue
		}
		m, err := decode(l.buf[:n], l.keys)
		size := int(m.id & 0xffff)
		if err != nil || m.kind != reply || m.id&^0xffff != l.first || int(m.size) != size-headers {
			continue
		}
		if l.kind == echo && n != int(m.size) {
			continue
		}
		l.heard.answered[size] = true
		l.answers++
	}
}

// errors takes in what routers, or this node, said of packets that were too big (linux/errqueue.h: struct sock_extended_err).
func (l *line) errors() {
	var oob [512]byte
	for {
		_, n, _, _, err := unix.Recvmsg(l.fd, l.buf[:], oob[:], unix.MSG_ERRQUEUE)
		if err != nil {
			return
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil {
			continue
		}
		for _, m := range messages {
			if m.Header.Level != unix.IPPROTO_IP || m.Header.Type != unix.IP_RECVERR || len(m.Data) < 16 {
				continue
			}
			errno, info := binary.NativeEndian.Uint32(m.Data), int(binary.NativeEndian.Uint32(m.Data[8:]))
			if unix.Errno(errno) == unix.EMSGSIZE && info >= 68 && (l.heard.told == 0 || info < l.heard.told) {
				l.heard.told = info
			}
		}
	}
}
