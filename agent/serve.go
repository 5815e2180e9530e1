// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// stuck is how many intervals may pass without a look before the agent calls itself dead.
const stuck = 5

// Handler serves /metrics, /healthz and /readyz. Healthy means that the loop still looks; ready, that it has looked and that
// synced says that the API server has been heard.
func (a *Agent) Handler(metrics prometheus.Gatherer, synced func() bool) http.Handler {
	started := time.Now()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		last := a.Looked()
		if last.IsZero() {
			last = started
		}
		// A retry of a write may take the place of the interval.
		if age := time.Since(last); age > stuck*max(a.Interval, lastRetry) {
			http.Error(w, fmt.Sprintf("the last look was %s ago", age.Round(time.Second)), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case a.Looked().IsZero():
			http.Error(w, "not looked yet", http.StatusServiceUnavailable)
		case !synced():
			http.Error(w, "the API server has not been heard yet", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ok")
		}
	})
	return mux
}
