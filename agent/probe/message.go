// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// kind is what a datagram is.
type kind byte

const (
	short kind = 1 + iota // a question whose answer is as short as can be: it tells about the way there
	echo                  // a question whose answer is as long as itself: it tells about the way back
	reply
)

// headerLen is how many bytes of a datagram mean something: magic 4, version 1, kind 1, size 2, id 8, code 16.
const headerLen = 32

const (
	magic   = "CCPB"
	version = 1
	codeAt  = 16
)

// message is a datagram that was signed with a key of the cluster's. Size is the length of the question, in bytes of UDP payload.
type message struct {
	kind kind
	size uint16
	id   uint64
}

// leastKey is how many bytes a key must have.
const leastKey = 16

// Keys are secrets of the cluster's agents. The first signs, any of them counts, so that keys can be changed one agent at a time.
type Keys [][]byte

// ReadKeys reads the keys in a folder, as a Secret is mounted: the file "current" signs, all count.
func ReadKeys(dir string) (Keys, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the keys of the probes: %w", err)
	}
	var keys Keys
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") { // the kubelet's own links
			continue
		}
		key, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading a key of the probes: %w", err)
		}
		if len(key) < leastKey {
			return nil, fmt.Errorf("reading the key %s of the probes: it has %d bytes, want %d or more random ones", e.Name(), len(key), leastKey)
		}
		if e.Name() == "current" {
			keys = slices.Insert(keys, 0, key)
		} else {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("reading the keys of the probes: %s holds none", dir)
	}
	return keys, nil
}

func code(key, header []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(header[:codeAt])
	return h.Sum(nil)[:headerLen-codeAt]
}

// encode writes a message of so many bytes.
func encode(m message, length int, keys Keys) []byte {
	b := make([]byte, max(length, headerLen))
	copy(b, magic)
	b[4], b[5] = version, byte(m.kind)
	binary.BigEndian.PutUint16(b[6:], m.size)
	binary.BigEndian.PutUint64(b[8:], m.id)
	copy(b[codeAt:], code(keys[0], b))
	return b
}

var errForeign = errors.New("no message of this cluster's agents")

// decode reads a message that was signed with one of the keys.
func decode(b []byte, keys Keys) (message, error) {
	if len(b) < headerLen || string(b[:len(magic)]) != magic || b[4] != version {
		return message{}, errForeign
	}
	for _, key := range keys {
		if hmac.Equal(code(key, b), b[codeAt:headerLen]) {
			return message{kind: kind(b[5]), size: binary.BigEndian.Uint16(b[6:]), id: binary.BigEndian.Uint64(b[8:])}, nil
		}
	}
	return message{}, errForeign
}

// answer is what a question gets, nothing if it deserves none. It is never longer than the question.
func answer(question []byte, keys Keys) []byte {
	m, err := decode(question, keys)
	if err != nil || int(m.size) != len(question) {
		return nil
	}
	length := headerLen
	switch m.kind {
	case short:
	case echo:
		length = len(question)
	default: // an answer to an answer would go on for ever
		return nil
	}
	return encode(message{kind: reply, size: m.size, id: m.id}, length, keys)
}
