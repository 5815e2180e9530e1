// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"sync"
	"time"
)

// Names of the networks of answers that belong to none of [Config.Networks].
const (
	// Elsewhere: the answer names an address outside all of them.
	Elsewhere = "elsewhere"
	// Unsaid: the answer names no address.
	Unsaid = "unsaid"
)

// Counts are requests. At the end of a run Sent = OK + Lost.
type Counts struct {
	Sent uint64 `json:"sent"`
	OK   uint64 `json:"ok"`
	Lost uint64 `json:"lost"`
	// Causes sum up to Lost and Networks to OK.
	Causes   map[Cause]uint64  `json:"causes,omitempty"`
	Networks map[string]uint64 `json:"networks,omitempty"`
}

// Latency is of answers that counted as OK, in milliseconds from the scheduled
// instant to the last byte; percentiles are rounded up to 0.1 ms.
type Latency struct {
	P50 float64 `json:"p50ms"`
	P99 float64 `json:"p99ms"`
	Max float64 `json:"maxms"`
}

// Progress is one line while the load runs.
type Progress struct {
	Time time.Time `json:"time"`
	// Total is since the start, Last since the line before.
	Total       Counts  `json:"total"`
	Last        Counts  `json:"last"`
	LastLatency Latency `json:"lastLatency"`
	Outstanding uint64  `json:"outstanding"`
}

// Failure is one lost request. Local is the client's address, by which the
// balancer's own events tell what became of it.
type Failure struct {
	Due    time.Time `json:"due"`
	App    string    `json:"app"`
	Cause  Cause     `json:"cause"`
	After  float64   `json:"afterms"`
	Local  string    `json:"local,omitempty"`
	Detail string    `json:"detail"`
}

// AppSummary is the sum of one app's requests.
type AppSummary struct {
	Counts
	Latency Latency `json:"latency"`
}

// Summary is the last line.
type Summary struct {
	Final   bool                  `json:"final"` // true: tells it from Progress
	Started time.Time             `json:"started"`
	Ended   time.Time             `json:"ended"`
	Rate    float64               `json:"rate"`
	Timeout float64               `json:"timeoutms"`
	Total   AppSummary            `json:"total"`
	Apps    map[string]AppSummary `json:"apps"`
	// WorstDelay is how long after its instant the client sent the request
	// that it was latest with, in milliseconds: its own part in the latencies.
	WorstDelay float64 `json:"worstdelayms"`
	// Failures are the first ones; MoreFailures were not described.
	Failures     []Failure `json:"failures"`
	MoreFailures uint64    `json:"morefailures"`
}

// account is counts and latencies that belong together.
type account struct {
	counts  Counts
	latency histogram
}

func newAccount() *account {
	return &account{counts: Counts{Causes: map[Cause]uint64{}, Networks: map[string]uint64{}}}
}

func (a *account) add(r result, network string) {
	if r.cause != "" {
		a.counts.Lost++
		a.counts.Causes[r.cause]++
		return
	}
	a.counts.OK++
	a.counts.Networks[network]++
	a.latency.add(r.latency)
}

// copy is what can be kept while the account goes on.
func (a *account) copy() AppSummary {
	counts := a.counts
	counts.Causes, counts.Networks = map[Cause]uint64{}, map[string]uint64{}
	for k, n := range a.counts.Causes {
		counts.Causes[k] = n
	}
	for k, n := range a.counts.Networks {
		counts.Networks[k] = n
	}
	return AppSummary{Counts: counts, Latency: a.latency.latency()}
}

// tally adds up a run.
type tally struct {
	config Config
	start  time.Time

	mu          sync.Mutex
	total, last *account
	apps        map[string]*account
	worst       time.Duration
	failures    []Failure
	more        uint64
}

func newTally(config Config, start time.Time) *tally {
	t := &tally{config: config, start: start, total: newAccount(), last: newAccount(), apps: map[string]*account{}, failures: []Failure{}}
	for _, target := range config.Targets {
		t.apps[target.App] = newAccount()
	}
	return t
}

// sending counts a request to app that begins delay after its instant.
func (t *tally) sending(app string, delay time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.worst = max(t.worst, delay)
	for _, a := range []*account{t.total, t.last, t.apps[app]} {
		a.counts.Sent++
	}
}

// ended counts what became of a request.
func (t *tally) ended(r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range []*account{t.total, t.last, t.apps[r.app]} {
		a.add(r, t.network(r))
	}
	switch {
	case r.cause == "":
	case len(t.failures) < t.config.MaxFailures:
		t.failures = append(t.failures, Failure{Due: r.due, App: r.app, Cause: r.cause, After: ms(r.latency), Local: r.local, Detail: r.detail})
	default:
		t.more++
	}
}

func (t *tally) network(r result) string {
	if !r.pod.IsValid() {
		return Unsaid
	}
	for _, n := range t.config.Networks {
		if n.Prefix.Contains(r.pod) {
			return n.Name
		}
	}
	return Elsewhere
}

// progress is the line for now; the next one's Last begins here.
func (t *tally) progress(now time.Time) Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := t.last.copy()
	t.last = newAccount()
	total := t.total.copy().Counts
	return Progress{
		Time: now, Total: total, Last: last.Counts, LastLatency: last.Latency,
		Outstanding: total.Sent - total.OK - total.Lost,
	}
}

func (t *tally) summary(now time.Time) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Summary{
		Final: true, Started: t.start, Ended: now,
		Rate: t.config.Rate, Timeout: ms(t.config.Timeout),
		Total: t.total.copy(), Apps: map[string]AppSummary{},
		WorstDelay: ms(t.worst), Failures: t.failures, MoreFailures: t.more,
	}
	for app, a := range t.apps {
		s.Apps[app] = a.copy()
	}
	return s
}
