// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// x_tables, which iptables-legacy writes to, hands a table out only as a whole (linux/netfilter_ipv4/ip_tables.h and its twin for IPv6).
const (
	getInfo    = 64 // IPT_SO_GET_INFO
	getEntries = 65 // IPT_SO_GET_ENTRIES
	nameSize   = 32 // XT_TABLE_MAXNAMELEN
	infoSize   = nameSize + 4 + 4*5 + 4*5 + 4 + 4
	// headSize is that of ipt_get_entries: a name, a size, and what aligns the entries to 8 bytes.
	headSize = nameSize + 4 + 4
	// maxTable bounds what is read, in bytes: about 150,000 rules, three times those of a large cluster.
	maxTable = 32 << 20
	// tableTries bounds how often a table is asked for again that has changed its size between two calls.
	tableTries = 5
)

// xFamily is one of the two kinds of x_tables.
type xFamily struct {
	name   string
	socket int
	level  int
	names  string // file with the names of the tables that there are: asking for one that is not there would make it
	// targetAt is where an entry has the offset of its target, that of the next entry behind it: after the addresses and 4 bytes more.
	targetAt int
}

func xFamilies() []xFamily {
	return []xFamily{
		{"ip", unix.AF_INET, unix.IPPROTO_IP, "/proc/thread-self/net/ip_tables_names", 84 + 4},
		{"ip6", unix.AF_INET6, unix.IPPROTO_IPV6, "/proc/thread-self/net/ip6_tables_names", 136 + 4},
	}
}

func lookXTables() ([]string, error) {
	var out []string
	for _, f := range xFamilies() {
		text, err := os.ReadFile(f.names)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not in this kernel, or nobody has used it
		}
		if err != nil {
			return out, fmt.Errorf("reading which tables iptables-legacy has: %w", err)
		}
		for _, table := range []string{"nat", "mangle"} {
			if !slices.Contains(strings.Fields(string(text)), table) {
				continue
			}
			entries, err := f.read(table)
			if err != nil {
				return out, fmt.Errorf("reading the table %s of iptables-legacy (%s): %w", table, f.name, err)
			}
			found, err := f.find(entries, table)
			if err != nil {
				return out, fmt.Errorf("reading the table %s of iptables-legacy (%s): %w", table, f.name, err)
			}
			out = append(out, found...)
		}
	}
	return out, nil
}

// read asks for a table. Any socket of the family will do.
func (f xFamily) read(table string) ([]byte, error) {
	fd, err := unix.Socket(f.socket, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(fd)
	for range tableTries {
		info := make([]byte, infoSize)
		copy(info[:nameSize-1], table)
		if err := getsockopt(fd, f.level, getInfo, info); err != nil {
			return nil, fmt.Errorf("asking for its size: %w", err)
		}
		size := binary.NativeEndian.Uint32(info[infoSize-4:])
		if size > maxTable {
			return nil, fmt.Errorf("it has %d bytes, and only %d are read; see `iptables-legacy-save -t %s | grep AWS` on the host", size, maxTable, table)
		}
		b := make([]byte, headSize+int(size))
		copy(b[:nameSize-1], table)
		binary.NativeEndian.PutUint32(b[nameSize:], size)
		switch err := getsockopt(fd, f.level, getEntries, b); {
		case err == nil:
			return b[headSize:], nil
		case !errors.Is(err, unix.EAGAIN):
			return nil, fmt.Errorf("asking for its entries: %w", err)
		}
	}
	return nil, fmt.Errorf("it changed its size in each of %d reads", tableTries)
}

func getsockopt(fd, level, option int, b []byte) error {
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// find walks the entries of a table. A chain that somebody made begins with an entry whose target is called ERROR and holds the chain's
// name (linux/netfilter/x_tables.h: xt_entry_target, xt_error_target).
func (f xFamily) find(entries []byte, table string) ([]string, error) {
	const (
		targetName = 2  // after its size
		headOf     = 32 // of a target
		chainName  = 30 // XT_FUNCTION_MAXNAMELEN
	)
	var out []string
	commented := false
	for at := 0; at < len(entries); {
		e := entries[at:]
		if len(e) < f.targetAt+4 {
			return out, fmt.Errorf("an entry at byte %d of %d is cut off", at, len(entries))
		}
		target, next := int(binary.NativeEndian.Uint16(e[f.targetAt:])), int(binary.NativeEndian.Uint16(e[f.targetAt+2:]))
		if next > len(e) || target+headOf > next || target < f.targetAt+4 {
			return out, fmt.Errorf("an entry at byte %d of %d has its target at %d and the next one at %d: of a shape that is not known here", at, len(entries), target, next)
		}
		t := e[target:next]
		switch {
		case text(t[targetName:headOf]) == "ERROR" && len(t) >= headOf+chainName:
			if chain := text(t[headOf : headOf+chainName]); strings.HasPrefix(chain, snatChain) || strings.HasPrefix(chain, connmarkChain) {
				out = append(out, fmt.Sprintf("the chain %s of %s %s (iptables-legacy)", chain, f.name, table))
			}
		case !commented && bytes.Contains(e[:next], []byte(legacyComment)):
			commented = true
			out = append(out, fmt.Sprintf("rules %q in %s %s (iptables-legacy)", legacyComment, f.name, table))
		}
		at += next
	}
	return out, nil
}

// text is what stands before the first zero.
func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
