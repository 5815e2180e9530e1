// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cniconf

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// looks bounds how often a directory that keeps changing is read again; pause lets a writer in the middle of a file get on.
const (
	looks = 6
	pause = 5 * time.Millisecond
)

// Read returns what is in dir. Links are followed inside dir only: seen from a container that mounts dir alone, a path outside it
// names a file of the container, so a link that leaves is reported as such (Outside) and not judged. A process
// that sees the host's whole file system uses ReadIn.
//
// Two looks in a row must agree in every name, byte, inode and time; after six that did not, the Listing is Changing.
// Read returns at once but for 5 ms between looks. It opens regular files and directories only, so a FIFO cannot hold it.
func Read(dir string) Directory { return reader{dir: dir, pause: wait}.read() }

// ReadIn is Read for a process that sees the host's file system at root ("/" on the host itself, or where the host's root is
// mounted): dir is a path inside root, and links, absolute ones too, are followed as the host follows them and never out of root.
func ReadIn(root, dir string) Directory { return reader{root: root, dir: dir, pause: wait}.read() }

func wait() { time.Sleep(pause) }

// reader is one way of reaching one directory.
type reader struct {
	root  string // "" confines links to dir
	dir   string
	pause func() // between looks
}

func (r reader) read() Directory {
	var last Directory
	for n := 1; n <= looks; n++ {
		now := r.look()
		now.Looks = n
		if n > 1 && same(last, now) {
			return now
		}
		last = now
		if n < looks {
			r.pause()
		}
	}
	return Directory{Path: r.dir, Listing: Changing, Looks: looks, Entries: last.Entries}
}

// same reports whether two looks saw the same directory. Names that neither the runtime nor we read (a writer's temporary file)
// may come and go.
func same(a, b Directory) bool {
	return a.Listing != Changing && a.Listing == b.Listing && a.Detail == b.Detail && reflect.DeepEqual(matter(a.Entries), matter(b.Entries))
}

func matter(entries []Entry) []Entry {
	var out []Entry
	for _, e := range entries {
		if isConf(e.Name) || isSetAside(e.Name) || e.Type == Dir || e.Type == Link {
			out = append(out, e)
		}
	}
	return out
}

// look reads the directory once.
func (r reader) look() Directory {
	d := Directory{Path: r.dir}
	at, err := r.open()
	if err != nil {
		d.Listing, d.Detail = listingOf(err), reason(err)
		return d
	}
	defer at.close()

	d.Entries, err = list(at, "", MaxNames)
	if err != nil {
		d.Listing, d.Detail = listingOf(err), reason(err)
		return d
	}
	budget, names := int64(MaxTotalBytes), MaxNames
	d.Listing = Listed
	for i := range d.Entries {
		e := &d.Entries[i]
		if isConf(e.Name) || isSetAside(e.Name) || e.Type == Dir || e.Type == Link {
			at.fill(e, e.Name, &budget)
			if e.Problem == IsDirectory || e.Type == Dir && e.Problem == NoProblem {
				at.fillDir(e, &budget, &names)
			}
		}
		if e.vanished() || slices.ContainsFunc(e.Sub, Entry.vanished) {
			d.Listing = Changing // two such looks in a row would agree, and be wrong
		}
	}
	return d
}

// vanished reports that a name went away between being listed and being opened: only a link may lead nowhere.
func (e Entry) vanished() bool {
	return e.Type != Link && (e.Problem == Dangling || e.Problem == ThroughFile)
}

// errTooMany says that a directory has more names than are looked at.
var errTooMany = errors.New("too many names")

// list returns the names of the directory at path below at, sorted, unless there are more than most. It opens by the same rules as everything else, so a
// directory that is a link out of bounds is not listed.
func list(at place, path string, most int) ([]Entry, error) {
	fd, err := at.openat(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	found, err := f.ReadDir(most + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(found) > most {
		return nil, errTooMany
	}
	entries := make([]Entry, 0, len(found))
	for _, f := range found {
		entries = append(entries, Entry{Name: f.Name(), Type: typeOf(f.Type())})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return entries, nil
}

func typeOf(m fs.FileMode) Type {
	switch {
	case m.IsRegular():
		return Regular
	case m.IsDir():
		return Dir
	case m&fs.ModeSymlink != 0:
		return Link
	}
	return Other
}

func listingOf(err error) Listing {
	switch {
	case errors.Is(err, errTooMany):
		return TooManyNames
	case errors.Is(err, unix.ENOENT):
		return NoDirectory
	case errors.Is(err, unix.ENOTDIR):
		return NotDirectory
	}
	return NotListed
}

// reason is the system's own word for an error, without the path that every sentence names anyway.
func reason(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// place is an open directory below which paths are resolved by one rule.
type place struct {
	fd      int
	prefix  string // put before every path
	resolve uint64 // RESOLVE_* of openat2(2)
}

// open reaches the directory. Without a root, dir itself is the bound; with one, the root is, and dir is a path in it.
func (r reader) open() (place, error) {
	if r.root == "" {
		fd, err := unix.Open(r.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return place{fd: fd, prefix: ".", resolve: unix.RESOLVE_BENEATH}, err
	}
	fd, err := unix.Open(r.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return place{fd: fd, prefix: r.dir, resolve: unix.RESOLVE_IN_ROOT}, err
}

func (p place) close() { unix.Close(p.fd) }

func (p place) openat(path string, flags uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: p.resolve | unix.RESOLVE_NO_MAGICLINKS}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(p.fd, filepath.Join(p.prefix, path), &how)
		// EAGAIN: something was renamed while the kernel walked the path.
		if !errors.Is(err, unix.EINTR) && (!errors.Is(err, unix.EAGAIN) || try == 100) {
			return fd, err
		}
	}
}

// fill reads what is at path into e, or says why it could not. O_PATH first: only what proves to be a regular file is opened for
// reading, because opening a FIFO waits and opening a device acts.
func (p place) fill(e *Entry, path string, budget *int64) {
	if e.Type == Link {
		e.Target = p.readlink(path)
	}
	fd, err := p.openat(path, unix.O_PATH)
	if err != nil {
		e.Problem, e.Detail = problemOf(err), reason(err)
		return
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	unix.Close(fd)
	switch {
	case err != nil:
		e.Problem, e.Detail = ReadFailed, reason(err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		if e.Type == Link {
			e.Problem = IsDirectory
		}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		e.Problem, e.Detail = Special, kindOfFile(st.Mode)
	case isConf(e.Name) || isSetAside(e.Name):
		p.fillFile(e, path, budget)
	}
}

// fillDir reads the *.conf files of a directory inside the directory: libcni takes plugins from the one named after the network.
// One level is all that anything reads, so links back up cannot lead us round in circles. names is how many more names may be
// looked at in all such directories together.
func (p place) fillDir(e *Entry, budget *int64, names *int) {
	entries, err := list(p, e.Name, *names)
	*names -= len(entries)
	if err != nil {
		e.SubMore, e.Detail = true, reason(err)
		return
	}
	for _, s := range entries {
		if s.Type == Dir || filepath.Ext(s.Name) != ".conf" {
			continue
		}
		p.fill(&s, filepath.Join(e.Name, s.Name), budget)
		e.Sub = append(e.Sub, s)
	}
}

func (p place) fillFile(e *Entry, path string, budget *int64) {
	fd, err := p.openat(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		e.Problem, e.Detail = problemOf(err), reason(err)
		return
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		e.Problem, e.Detail = ReadFailed, reason(err)
		return
	}
	e.Size = st.Size
	e.stamp = stamp{dev: st.Dev, ino: st.Ino, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}
	if e.Size > MaxFileBytes {
		e.Problem = TooLarge
		return
	}
	if e.Size > *budget {
		e.Problem = NotRead
		return
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	*budget -= int64(len(b))
	switch {
	case err != nil:
		e.Problem, e.Detail = ReadFailed, reason(err)
	case len(b) > MaxFileBytes:
		e.Problem = TooLarge
	default:
		e.Bytes = b
	}
}

// readlink returns where a link points, for the sentence; "" when it is gone, which the next look notices.
func (p place) readlink(path string) string {
	fd, err := p.openat(path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

func problemOf(err error) Problem {
	switch {
	case errors.Is(err, unix.ENOENT):
		return Dangling
	case errors.Is(err, unix.ENOTDIR):
		return ThroughFile
	case errors.Is(err, unix.ELOOP):
		return Loop
	case errors.Is(err, unix.EXDEV):
		return Outside
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return Denied
	}
	return ReadFailed
}

func kindOfFile(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	}
	return "a device"
}
