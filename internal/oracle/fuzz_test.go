// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package oracle

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzRead: of a log, every whole line that tells of an answer is an event, or the log is refused: an event that is lost would
// prove anything.
func FuzzRead(f *testing.F) {
	line := `{"stage":"ResponseComplete","verb":"patch","user":{"username":"a"},"objectRef":{"resource":"nodes","name":"n"},"responseStatus":{"code":200}}`
	for _, log := range []string{"", line, line + "\n", line + "\n" + line + "\n" + line[:40], "{}\n", "null\n", "\n", "{\n" + line + "\n", line + line + "\n", `{"stage":"RequestReceived"}` + "\n"} {
		f.Add(log)
	}
	f.Fuzz(func(t *testing.T, log string) {
		got, want := 0, 0
		err := Read(strings.NewReader(log), func(e *Event) {
			got++
			e.Done()
			e.Write()
		})
		lines := strings.Split(log, "\n")
		for _, line := range lines[:len(lines)-1] {
			var e struct {
				Stage string `json:"stage"`
			}
			if !json.Valid([]byte(line)) {
				want = -1
				break
			}
			if json.Unmarshal([]byte(line), &e) == nil && e.Stage == "ResponseComplete" {
				want++
			}
		}
		if err == nil && got != want {
			t.Errorf("%q: %d events, want %d", log, got, want)
		}
		if want < 0 && err == nil {
			t.Errorf("%q is no log and is read as one", log)
		}
	})
}
