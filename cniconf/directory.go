// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cniconf

import "path/filepath"

// Limits of one look at a directory. Real files are below 20 KiB; whoever can write here is root on the node, so these only
// bound what a damaged or hostile directory costs the reader.
const (
	MaxFileBytes  = 1 << 20 // bytes of one file; a larger one is not read
	MaxTotalBytes = 4 << 20 // bytes of all files together, in sorted order
	MaxNames      = 4096    // names in a directory, and in all directories inside it together
)

// setAside is what Cilium (cni.exclusive) appends to the names of other CNIs' files so that no runtime reads them.
const setAside = ".cilium_bak"

// A Listing says how listing the directory went.
type Listing uint8

// The zero Listing is a directory nobody has read.
const (
	NotListed    Listing = iota // nobody looked, or looking failed: Detail says why
	Listed                      // Entries is complete, and two looks in a row agreed
	NoDirectory                 // there is nothing at Path
	NotDirectory                // what is at Path is not a directory
	Changing                    // no two looks in a row agreed
	TooManyNames                // more than MaxNames
)

// Directory is a net.d directory as plain data.
type Directory struct {
	Path    string // as given to Read; used in sentences and for nothing else
	Listing Listing
	Detail  string  // what the system said, when Listing is not Listed
	Looks   int     // how many looks were needed
	Entries []Entry // every name, sorted byte by byte
}

// A Type is what a directory lists a name as, before links are followed.
type Type uint8

// The types of a directory entry.
const (
	Regular Type = iota
	Dir
	Link
	Other // socket, FIFO, device
)

// A Problem is why an entry has no Bytes.
type Problem uint8

// Problems come in two sorts. From Dangling to Special, the runtime fails as we do. From Denied on, it may well succeed where we
// could not: it runs as root with every capability, in the host's own mount namespace.
const (
	NoProblem   Problem = iota
	Dangling            // a link to nothing
	ThroughFile         // a link whose path goes through something that is no directory
	Loop                // links that lead to each other
	IsDirectory         // a link to a directory
	Special             // a socket, FIFO or device, or a link to one
	Denied              // we may not read it
	Outside             // a link that leaves the directory: what we see there need not be what the host sees
	TooLarge            // more than MaxFileBytes
	NotRead             // MaxTotalBytes were used up before it
	ReadFailed          // any other error: Detail says which
)

// Entry is one name in the directory.
type Entry struct {
	Name    string
	Type    Type
	Target  string  // where a Link points
	Bytes   []byte  // the content, when the name is one that matters and Problem is NoProblem
	Size    int64   // bytes, as the file system reports it
	Problem Problem // why there are no Bytes
	Detail  string  // what the system said
	Sub     []Entry // for a directory, or a link to one: its *.conf files, sorted
	SubMore bool    // that directory could not be listed in full

	// stamp tells two looks apart that happened to see the same bytes.
	stamp stamp
}

// stamp identifies one state of one file.
type stamp struct {
	dev, ino     uint64
	mtime, ctime int64 // ns
}

// isConf reports whether a runtime would list this name.
func isConf(name string) bool {
	switch filepath.Ext(name) {
	case ".conf", ".conflist", ".json":
		return true
	}
	return false
}

// isSetAside reports whether Cilium renamed this file out of the runtime's sight.
func isSetAside(name string) bool { return filepath.Ext(name) == setAside }
