// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// windowsOpen says whether a window is open at a time, and otherwise when the next one opens. Without windows it is always
// open. A window belongs to the day on which it opens and may pass midnight; on a day without its start time (a clock
// change) it opens when the clock has passed it.
func windowsOpen(windows []v1alpha1.Window, now time.Time) (open bool, next time.Time, err error) {
	if len(windows) == 0 {
		return true, time.Time{}, nil
	}
	for _, w := range windows {
		zone, err := time.LoadLocation(w.TimeZone)
		if err != nil {
			return false, time.Time{}, fmt.Errorf("finding time zone %q: use an IANA name as Europe/Berlin: %w", w.TimeZone, err)
		}
		start, err := time.Parse("15:04", w.Start)
		if err != nil {
			return false, time.Time{}, fmt.Errorf("parsing start %q: use HH:MM: %w", w.Start, err)
		}
		local := now.In(zone)
		for day := -1; day <= 7; day++ {
			opens := time.Date(local.Year(), local.Month(), local.Day()+day, start.Hour(), start.Minute(), 0, 0, zone)
			if len(w.Days) > 0 && !slices.Contains(w.Days, v1alpha1.Weekday(opens.Weekday().String())) {
				continue
			}
			if !now.Before(opens) && now.Before(opens.Add(w.Duration.Duration)) {
				return true, time.Time{}, nil
			}
			if opens.After(now) && (next.IsZero() || opens.Before(next)) {
				next = opens
			}
		}
	}
	return false, next, nil
}
