// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cni-cutover/cni-cutover/agent/facts"
)

// FuzzDecodeList: a list that is read item by item, however it arrives in pieces, is what it is when it is read whole; and
// what is no list is an error and never a list of no peers.
func FuzzDecodeList(f *testing.F) {
	item := `{"metadata":{"name":"n1"},"spec":{"ipam":{"podCIDRs":["10.244.1.0/24"]},"addresses":[{"type":"InternalIP","ip":"10.0.0.1"}]}}`
	for _, list := range []string{
		`{"kind":"CiliumNodeList","metadata":{"continue":"more"},"items":[` + item + "," + item + `]}`, `{"items":[]}`, `{"items":null}`, `{}`, `[]`, "null", "",
		`{"metadata":{"continue":1},"items":[]}`, `{"items":[1]}`, `{"items":[` + item, `{"items":[{}],"items":[{}]}`, `{"items":` + strings.Repeat("[", 100_000), `{"kind":"Status","code":500}`,
		`{"a":` + strings.Repeat(`{"a":`, 20_000),
	} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		read := func(r io.Reader) (more string, all []facts.CiliumNodeObject, err error) {
			more, err = decodeList(r, func(o *facts.CiliumNodeObject) error {
				all = append(all, *o)
				return nil
			})
			return more, all, err
		}
		more, all, err := read(strings.NewReader(list))
		if again, same, err2 := read(iotest.OneByteReader(strings.NewReader(list))); again != more || (err == nil) != (err2 == nil) || !reflect.DeepEqual(all, same) {
			t.Errorf("in one piece %q %v %v, byte by byte %q %v %v", more, all, err, again, same, err2)
		}
		if err != nil {
			return
		}
		// Keys that are there twice, or in another case, are no lists of an API server's.
		var whole struct {
			Metadata struct{ Continue string } `json:"metadata"`
			Items    []facts.CiliumNodeObject  `json:"items"`
		}
		if strings.Count(list, "items") != 1 || strings.Count(list, "metadata") > 1+strings.Count(list, "{")/2 || strings.Count(strings.ToLower(list), "items") != 1 {
			return
		}
		dec := json.NewDecoder(strings.NewReader(list))
		if err := dec.Decode(&whole); err != nil {
			t.Fatalf("%q: %d items item by item; as a whole: %v", list, len(all), err)
		}
		if len(whole.Items) != len(all) {
			t.Errorf("%q: %d items item by item, %d as a whole", list, len(all), len(whole.Items))
		}
		for i := range all {
			if !reflect.DeepEqual(all[i], whole.Items[i]) {
				t.Errorf("%q: item %d is %+v, and %+v as a whole", list, i, all[i], whole.Items[i])
			}
		}
	})
}
