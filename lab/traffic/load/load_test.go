// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// config is a short run with plenty of time for each request.
func config(timeout time.Duration, targets ...Target) Config {
	c := Defaults()
	c.Targets, c.Timeout = targets, timeout
	c.Rate = 500
	return c
}

// listen is a TCP server that does the same to every connection, and counts them.
func listen(t *testing.T, do func(*net.TCPConn)) (url string, accepted *atomic.Uint64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	accepted = new(atomic.Uint64)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			go func() {
				defer conn.Close()
				do(conn.(*net.TCPConn))
			}()
		}
	}()
	return "http://" + listener.Addr().String(), accepted
}

// request reads until the end of a request's head.
func request(conn net.Conn) {
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); {
		if _, err := conn.Read(one); err != nil {
			return
		}
		head = append(head, one[0])
	}
}

func status(t *testing.T, code int, body string) Target {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return Target{App: fmt.Sprint(code), URL: server.URL}
}

func TestEveryPlannedFailureIsCountedExactlyWithItsCause(t *testing.T) {
	const each = 40
	refused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + refused.Addr().String()
	refused.Close()
	reset, resets := listen(t, func(c *net.TCPConn) { request(c); _ = c.SetLinger(0) })
	closed, closes := listen(t, func(c *net.TCPConn) { request(c) })
	short, shorts := listen(t, func(c *net.TCPConn) {
		request(c)
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot a hundred")
	})
	want := map[string]Counts{
		"refused": {Sent: each, Lost: each, Causes: map[Cause]uint64{Refused: each}},
		"reset":   {Sent: each, Lost: each, Causes: map[Cause]uint64{Reset: each}},
		"closed":  {Sent: each, Lost: each, Causes: map[Cause]uint64{Truncated: each}},
		"short":   {Sent: each, Lost: each, Causes: map[Cause]uint64{Truncated: each}},
		"500":     {Sent: each, Lost: each, Causes: map[Cause]uint64{StatusCause(500): each}},
		"204":     {Sent: each, Lost: each, Causes: map[Cause]uint64{StatusCause(204): each}},
		"302":     {Sent: each, Lost: each, Causes: map[Cause]uint64{StatusCause(302): each}},
		"200":     {Sent: each, OK: each, Networks: map[string]uint64{"overlay": each}},
	}
	c := config(20*time.Second,
		status(t, 200, `{"podIP":"10.244.3.4"}`),
		Target{"refused", nobody}, Target{"reset", reset}, Target{"closed", closed}, Target{"short", short},
		status(t, 500, "no"), status(t, 204, ""), status(t, 302, ""),
	)
	c.Requests = each * uint64(len(want))
	c.MaxFailures = 10
	var out bytes.Buffer
	summary, err := Run(t.Context(), c, &out)
	if err != nil {
		t.Fatal(err)
	}

	for app, counts := range want {
		got := summary.Apps[app]
		if counts.Causes == nil {
			counts.Causes = map[Cause]uint64{}
		}
		if counts.Networks == nil {
			counts.Networks = map[string]uint64{}
		}
		if diff := cmp.Diff(counts, got.Counts); diff != "" {
			t.Errorf("%s (-want +got):\n%s", app, diff)
		}
	}
	if got := summary.Total; got.Sent != c.Requests || got.OK != each || got.Lost != c.Requests-each {
		t.Errorf("total %+v", got.Counts)
	}
	if len(summary.Failures) != 10 || summary.MoreFailures != summary.Total.Lost-10 {
		t.Errorf("%d failures described and %d more, of %d", len(summary.Failures), summary.MoreFailures, summary.Total.Lost)
	}
	for _, f := range summary.Failures {
		if f.Detail == "" || f.Due.IsZero() || f.Cause != Refused && f.Local == "" {
			t.Errorf("failure without its circumstances: %+v", f)
		}
	}
	// One connection for each request: neither shared nor tried again.
	for name, n := range map[string]*atomic.Uint64{"reset": resets, "closed": closes, "short": shorts} {
		if n.Load() != each {
			t.Errorf("%s saw %d connections for %d requests", name, n.Load(), each)
		}
	}
	var last Summary
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || !last.Final || last.Total.Lost != summary.Total.Lost {
		t.Errorf("the last line is not the summary: %v %s", err, lines[len(lines)-1])
	}
}

func TestSuccessesUseAConnectionEach(t *testing.T) {
	var conns atomic.Uint64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := config(20*time.Second, Target{"app", server.URL})
	c.Requests = 50
	summary, err := Run(t.Context(), c, io.Discard)
	if err != nil || summary.Total.OK != 50 || conns.Load() != 50 {
		t.Errorf("%d answers over %d connections, want 50 over 50 (%v)", summary.Total.OK, conns.Load(), err)
	}
}

func TestSlowAnswersAreLostAtTheLimit(t *testing.T) {
	end := make(chan struct{})
	slow, _ := listen(t, func(c *net.TCPConn) { request(c); <-end })
	defer close(end)
	half, _ := listen(t, func(c *net.TCPConn) {
		request(c)
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe rest")
		<-end
	})
	const timeout = 300 * time.Millisecond
	c := config(timeout, Target{"slow", slow}, Target{"half", half})
	c.Requests = 20
	summary, err := Run(t.Context(), c, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Total.Lost != 20 || summary.Total.OK != 0 {
		t.Errorf("total %+v, want 20 lost", summary.Total.Counts)
	}
	for _, f := range summary.Failures {
		if f.After < ms(timeout) {
			t.Errorf("given up before the limit: %+v", f)
		}
	}
}

func TestAStalledServerDoesNotLowerTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var began [600]atomic.Int64
		var n atomic.Int64
		var mu sync.Mutex
		var now, most int
		outstanding := func(change int) {
			mu.Lock()
			defer mu.Unlock()
			now += change
			most = max(most, now)
		}
		transport := transportFunc(func(r *http.Request) (*http.Response, error) {
			began[n.Add(1)-1].Store(int64(time.Since(start)))
			outstanding(1)
			defer outstanding(-1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		c := Defaults()
		c.Targets = []Target{{"a", "http://a"}, {"b", "http://b"}, {"c", "http://c"}}
		c.Transport = transport
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second-time.Nanosecond)
		defer stop()
		var out bytes.Buffer
		summary, err := Run(ctx, c, &out)
		if err != nil {
			t.Fatal(err)
		}

		if summary.Total.Sent != 600 || summary.Total.Lost != 600 {
			t.Errorf("%+v in 5 s at 120/s, want 600 sent and lost", summary.Total.Counts)
		}
		for i := range began {
			if want := time.Duration(float64(i) / 120 * float64(time.Second)); time.Duration(began[i].Load()) != want {
				t.Fatalf("request %d began at %s, its instant was %s", i, time.Duration(began[i].Load()), want)
			}
		}
		if most < 119 || most > 121 {
			t.Errorf("%d outstanding at most, want about rate x limit = 120", most)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("the run took %s: it did not end with its last request", took)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		var third Progress
		if err := json.Unmarshal([]byte(lines[2]), &third); err != nil {
			t.Fatal(err)
		}
		if third.Last.Sent < 119 || third.Last.Sent > 121 || third.Total.Sent < 359 || third.Outstanding < 119 {
			t.Errorf("the third second: %s", lines[2])
		}
	})
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answering(after time.Duration, body string) transportFunc {
	return func(r *http.Request) (*http.Response, error) {
		select {
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-time.After(after):
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}, nil
		}
	}
}

func TestLatencyCountsFromTheScheduledInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Defaults()
		c.Targets, c.Rate, c.Requests = []Target{{"a", "http://a"}}, 10, 10
		c.Transport = answering(250*time.Millisecond, "")
		summary, err := Run(t.Context(), c, io.Discard)
		want := Latency{P50: 250, P99: 250, Max: 250}
		if err != nil || summary.Total.Latency != want {
			t.Errorf("latency %+v, want %+v (%v)", summary.Total.Latency, want, err)
		}
	})
	due := time.Now().Add(-2 * time.Second)
	ctx, cancel := context.WithDeadline(t.Context(), due.Add(time.Second))
	defer cancel()
	r := attempt(ctx, answering(0, ""), Target{"a", "http://a"}, due)
	if r.cause != Late || r.latency < 2*time.Second {
		t.Errorf("a request 2 s behind its instant: %+v, want it lost as %q", r, Late)
	}
}

func TestEndingTheRunLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Defaults()
		c.Targets = []Target{{"a", "http://a"}}
		c.Transport = answering(900*time.Millisecond, "")
		ctx, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer stop()
		summary, err := Run(ctx, c, io.Discard)
		if err != nil || summary.Total.OK != summary.Total.Sent || summary.Total.Sent < 60 {
			t.Errorf("%+v, want all of at least 60 answered (%v)", summary.Total.Counts, err)
		}
	})
}

func TestAnswersAreSortedByTheNetworkOfTheirPod(t *testing.T) {
	for body, want := range map[string]string{
		`{"podIP":"10.244.1.2"}`:        "overlay",
		`{"podIP":"::ffff:10.244.1.2"}`: "overlay",
		`{"podIP":"10.0.3.4"}`:          "vpc",
		`{"podIP":"192.168.0.1"}`:       Elsewhere,
		`{"podIP":""}`:                  Unsaid,
		`hello`:                         Unsaid,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := Defaults()
			c.Targets, c.Requests = []Target{{"a", "http://a"}}, 3
			c.Transport = answering(0, body)
			summary, err := Run(t.Context(), c, io.Discard)
			if got := summary.Total.Networks; err != nil || !maps.Equal(got, map[string]uint64{want: 3}) {
				t.Errorf("%s: networks %v, want 3 of %s (%v)", body, got, want, err)
			}
		})
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestAnUnwritableOutEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Defaults()
		c.Targets = []Target{{"a", "http://a"}}
		c.Transport = answering(0, "")
		summary, err := Run(t.Context(), c, broken{})
		if err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("error %v", err)
		}
		if summary.Total.Sent == 0 || summary.Total.Sent != summary.Total.OK {
			t.Errorf("summary %+v", summary.Total.Counts)
		}
	})
}

func TestRunRefusesWhatCanNotWork(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no targets": func(c *Config) { c.Targets = nil },
		"no rate":    func(c *Config) { c.Rate = 0 },
		"no limit":   func(c *Config) { c.Timeout = 0 },
		"bad URL":    func(c *Config) { c.Targets[0].URL = "http://[" },
	} {
		c := config(time.Second, Target{"a", "http://a"})
		change(&c)
		if _, err := Run(t.Context(), c, io.Discard); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
