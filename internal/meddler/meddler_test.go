// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package meddler_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cni-cutover/cni-cutover/internal/meddler"
)

// stand is a proxy before a server that notes what reaches it.
type stand struct {
	*meddler.Proxy
	client *kubernetes.Clientset

	mu      sync.Mutex
	reached []string
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.reached = append(s.reached, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Node", "apiVersion": "v1", "metadata": map[string]any{"name": strings.Repeat("n", 100)}})
	}))
	t.Cleanup(server.Close)
	s.Proxy = meddler.Start(t, &rest.Config{Host: server.URL, BearerToken: "secret"})
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	if s.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stand) patch(t *testing.T) error {
	_, err := s.client.CoreV1().Nodes().Patch(t.Context(), "n1", types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
	return err
}

func (s *stand) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reached
}

func TestWritesAreCountedAndCredentialsAdded(t *testing.T) {
	s := newStand(t)
	var told []string
	s.Meddle(func(r meddler.Request) meddler.Fate {
		told = append(told, r.String())
		return meddler.Fate{}
	})
	c := s.client
	_, _ = c.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
	_, _ = c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	_, _ = c.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{})
	_ = s.patch(t)
	_ = c.CoordinationV1().Leases("ns").Delete(t.Context(), "l", metav1.DeleteOptions{})
	_ = c.AppsV1().DaemonSets("ns").Delete(t.Context(), "d", metav1.DeleteOptions{})
	_ = c.CoreV1().RESTClient().Post().Namespace("ns").Resource("pods").Name("p").SubResource("eviction").Body([]byte(`{}`)).Do(t.Context()).Error()
	want := []string{"get nodes/n1", "list nodes", "watch nodes", "1: patch nodes/n1", "delete leases/l", "2: delete daemonsets/d", "3: create pods/p/eviction"}
	if diff := cmp.Diff(want, told); diff != "" || s.Writes() != 3 {
		t.Errorf("%d writes (-want +got):\n%s", s.Writes(), diff)
	}
	if got := s.seen(); len(got) != len(want) || got[0] != "GET /api/v1/nodes/n1 Bearer secret" {
		t.Errorf("the API server saw %v", got)
	}
}

func TestARequestMeetsItsFate(t *testing.T) {
	for name, tt := range map[string]struct {
		fate    meddler.Fate
		reaches bool
		is      func(error) bool
	}{
		"honest":                       {meddler.Fate{}, true, func(err error) bool { return err == nil }},
		"lost on the way":              {meddler.Fate{Lost: true}, false, func(err error) bool { return err != nil && !isStatus(err) }},
		"done, and nobody hears of it": {meddler.Fate{Unheard: true}, true, func(err error) bool { return err != nil && !isStatus(err) }},
		"a conflict":                   {meddler.Fate{Answer: http.StatusConflict}, false, apierrors.IsConflict},
		"an error of the server":       {meddler.Fate{Answer: http.StatusInternalServerError}, false, apierrors.IsInternalError},
		"half an answer":               {meddler.Fate{Cut: 50}, true, func(err error) bool { return err != nil && !isStatus(err) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			var mu sync.Mutex
			var order []string
			note := func(what string) {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, what)
			}
			tt.fate.Before = func() { note("before") }
			tt.fate.After = func() { note("after") }
			s.Meddle(func(meddler.Request) meddler.Fate { return tt.fate })
			s.Witness(func(_ meddler.Request, status int) { note(http.StatusText(status)) })
			if err := s.patch(t); !tt.is(err) {
				t.Errorf("the program was told %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			want := []string{"before", "", "OK", "after"}
			if !tt.reaches {
				want = want[:1]
			}
			if diff := cmp.Diff(want, order); diff != "" || len(s.seen()) > 0 != tt.reaches {
				t.Errorf("reached %v (-want +got):\n%s", s.seen(), diff)
			}
		})
	}
}

func isStatus(err error) bool {
	var s apierrors.APIStatus
	return errors.As(err, &s)
}

func TestTooManyRequestsAreTriedAgainWhenTheServerSaysSo(t *testing.T) {
	s := newStand(t)
	s.Meddle(func(r meddler.Request) meddler.Fate {
		if r.Write == 1 {
			return meddler.Fate{Answer: http.StatusTooManyRequests, RetryAfter: time.Second}
		}
		return meddler.Fate{}
	})
	began := time.Now()
	if err := s.patch(t); err != nil || s.Writes() != 2 {
		t.Errorf("%v after %d writes, want success at the second", err, s.Writes())
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("tried again after %s, was asked to wait a second", took)
	}
}

func TestTheServerGoesAwayAndComesBack(t *testing.T) {
	s := newStand(t)
	s.GoAway()
	// A connection that the kernel took just before the listener closed is reset.
	if err := s.patch(t); !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a connection refused or reset", err)
	}
	s.ComeBack()
	if err := s.patch(t); err != nil {
		t.Error(err)
	}
}

func TestAWatchIsCutInTheMiddleOfAnEvent(t *testing.T) {
	s := newStand(t)
	s.Meddle(func(r meddler.Request) meddler.Fate { return meddler.Fate{Cut: 50} })
	body, err := s.client.CoreV1().RESTClient().Get().Resource("nodes").Param("watch", "true").Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 50 {
		t.Errorf("read %d bytes and %v, want 50 and an unexpected end", len(got), err)
	}
}
