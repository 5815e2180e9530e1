// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var (
	keyA = []byte("0123456789abcdef0123456789abcdef")
	keyB = []byte("fedcba9876543210fedcba9876543210")
)

func question(k kind, length int, keys Keys) []byte {
	return encode(message{kind: k, size: uint16(length), id: 0x1234_0000}, length, keys)
}

func TestAnswer(t *testing.T) {
	mine := Keys{keyA}
	cut := question(short, 1000, mine)[:500]
	longer := append(question(short, 100, mine), 0)
	forged := question(short, 100, mine)
	forged[8] ^= 1
	for name, c := range map[string]struct {
		question []byte
		length   int // of the answer; 0: none
	}{
		"a question about the way there":          {question(short, 1000, mine), headerLen},
		"a question about the way back":           {question(echo, 1000, mine), 1000},
		"the smallest":                            {question(echo, headerLen, mine), headerLen},
		"another cluster's":                       {question(short, 1000, Keys{keyB}), 0},
		"an answer":                               {question(reply, headerLen, mine), 0},
		"an unknown kind":                         {question(kind(77), 100, mine), 0},
		"a question that was cut":                 {cut, 0},
		"a question that was made longer":         {longer, 0},
		"a question that was changed":             {forged, 0},
		"nothing":                                 {nil, 0},
		"less than a header":                      {question(short, 100, mine)[:headerLen-1], 0},
		"the key of an agent that is not yet new": {question(echo, 1000, Keys{keyB, keyA}), 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := answer(c.question, mine); len(got) != c.length {
				t.Errorf("an answer of %d bytes, want %d", len(got), c.length)
			}
		})
	}
	if len(answer(question(echo, 1000, Keys{keyB}), Keys{keyA, keyB})) != 1000 {
		t.Error("while keys change, the other one must count as well")
	}
}

// FuzzAnswer: nobody gets more bytes than he sent, and nobody without a key gets any.
func FuzzAnswer(f *testing.F) {
	f.Add(question(echo, 100, Keys{keyA}), true)
	f.Add(question(short, 40, Keys{keyA}), false)
	f.Add([]byte("CCPB"), false)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, sign bool) {
		if sign && len(b) >= headerLen {
			copy(b, magic)
			b[4] = version
			copy(b[codeAt:], code(keyA, b))
		}
		got := answer(b, Keys{keyA})
		if len(got) > len(b) {
			t.Errorf("%d bytes for %d", len(got), len(b))
		}
		if len(answer(b, Keys{keyB})) > 0 {
			t.Error("answered without the key")
		}
		if got != nil && !sign && !bytes.Equal(b[codeAt:headerLen], code(keyA, b)) {
			t.Error("answered without a code")
		}
	})
}

func TestReadKeys(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadKeys(dir); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("of an empty folder: %v", err)
	}
	if _, err := ReadKeys(filepath.Join(dir, "missing")); err == nil {
		t.Error("of no folder: no error")
	}
	write := func(name string, key []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a-previous", keyB)
	write("current", keyA)
	if err := os.Mkdir(filepath.Join(dir, "..2026"), 0o700); err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKeys(dir)
	if err != nil || len(keys) != 2 || !bytes.Equal(keys[0], keyA) {
		t.Errorf("%q, %v: want the current one first", keys, err)
	}
	write("short", []byte("0123456789"))
	if _, err := ReadKeys(dir); err == nil || !strings.Contains(err.Error(), "short") {
		t.Errorf("of a key that anybody guesses: %v", err)
	}
}
