// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"math"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// FuzzWindows asks of windows of every kind that the API server takes, in places where clocks are changed in odd ways: a window
// that is open began and has not ended, by the wall clock of the place; one that is closed says when it opens, and at that
// time, and not a second before, it is open.
func FuzzWindows(f *testing.F) {
	berlin := time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC).Unix() // half an hour after the clocks went forward
	f.Add(berlin, uint8(2), uint8(30), uint16(90), uint8(0b1000000), uint8(0))
	f.Add(berlin, uint8(0), uint8(0), uint16(1440), uint8(0), uint8(0))
	f.Add(int64(0), uint8(23), uint8(59), uint16(1), uint8(1), uint8(3))
	f.Add(int64(math.MaxInt32), uint8(12), uint8(0), uint16(60), uint8(0b0101010), uint8(4))
	zones := []string{"Europe/Berlin", "UTC", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Asia/Kathmandu"}
	f.Fuzz(func(t *testing.T, unix int64, hour, minute uint8, minutes uint16, days, zone uint8) {
		now := time.Unix(unix%(1<<33), 0)
		w := v1alpha1.Window{
			Start:    fmt.Sprintf("%02d:%02d", hour%24, minute%60),
			Duration: metav1.Duration{Duration: time.Duration(1+int(minutes)%(24*60)) * time.Minute},
			TimeZone: zones[int(zone)%len(zones)],
		}
		for d := range 7 {
			if days&(1<<d) != 0 {
				w.Days = append(w.Days, v1alpha1.Weekday(time.Weekday(d).String()))
			}
		}
		open, next, err := windowsOpen([]v1alpha1.Window{w}, now)
		if err != nil {
			t.Fatalf("%+v: %v", w, err)
		}
		if open {
			for past := time.Duration(0); past <= w.Duration.Duration; past += time.Minute {
				if starts(t, w, now.Add(-past)) {
					return
				}
			}
			t.Fatalf("%+v is open at %s and began at no time before", w, now)
		}
		if !next.After(now) || next.Sub(now) > 9*24*time.Hour {
			t.Fatalf("%+v is closed at %s and opens at %s", w, now, next)
		}
		if is, _, _ := windowsOpen([]v1alpha1.Window{w}, next); !is {
			t.Errorf("%+v says at %s that it opens at %s, and does not", w, now, next)
		}
		if is, _, _ := windowsOpen([]v1alpha1.Window{w}, next.Add(-time.Second)); is {
			t.Errorf("%+v says at %s that it opens at %s, and was open before", w, now, next)
		}
	})
}

// starts says whether a window opens in the minute before a time: the wall clock shows its start, or jumped over it.
func starts(t *testing.T, w v1alpha1.Window, at time.Time) bool {
	t.Helper()
	zone, err := time.LoadLocation(w.TimeZone)
	if err != nil {
		t.Fatal(err)
	}
	var hour, minute int
	if _, err := fmt.Sscanf(w.Start, "%d:%d", &hour, &minute); err != nil {
		t.Fatal(err)
	}
	local := at.In(zone)
	opens := time.Date(local.Year(), local.Month(), local.Day(), hour, minute, 0, 0, zone)
	if at.Before(opens) || at.Sub(opens) > time.Minute {
		return false
	}
	for _, d := range w.Days {
		if string(d) == opens.Weekday().String() {
			return true
		}
	}
	return len(w.Days) == 0
}
