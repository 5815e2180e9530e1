// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"

	"github.com/cni-cutover/cni-cutover/agent/check"
	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/bpf/ciliummap"
)

const (
	webService = `{"metadata":{"namespace":"shop","name":"web","managedFields":[{"manager":"x","fieldsV1":{"f:spec":{}}}]},"spec":{"clusterIP":"10.96.0.7","ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":"http"}]}}`
	webSlice   = `{"metadata":{"namespace":"shop","name":"web-%d","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
		"ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[{"addresses":["10.244.1.%[1]d"],"conditions":{"ready":true}}]}`
)

func TestListsServicesAndTheirEndpoints(t *testing.T) {
	server, config := newFakeServer(t)
	server.answers[servicesPath+"?"] = `{"kind":"ServiceList","apiVersion":"v1","metadata":{},"items":[` + webService + `]}`
	server.answers[slicesPath+"?"] = `{"metadata":{"continue":"more"},"items":[` + fmt.Sprintf(webSlice, 3) + `]}`
	server.answers[slicesPath+"?more"] = `{"metadata":{},"items":[` + fmt.Sprintf(webSlice, 4) + `]}`
	a := newAPI(t, config, func(bool) {})
	for _, cached := range []bool{true, false} {
		w := a.WantedServices(t.Context(), cached)
		want := "[{shop/web 10.96.0.7:80/TCP false map[10.244.1.3:8080:true 10.244.1.4:8080:true]}]"
		if w.Sight != facts.Seen || fmt.Sprint(w.List) != want || w.Endpoints != 2 {
			t.Errorf("cached %t: %+v, want %s", cached, w, want)
		}
	}
	const served = "labelSelector=%21service.kubernetes.io%2Fheadless"
	for _, want := range []string{
		"GET " + servicesPath + "?" + served + "%2C%21service.kubernetes.io%2Fservice-proxy-name&resourceVersion=0",
		"GET " + slicesPath + "?" + served + "&resourceVersion=0",
		"GET " + slicesPath + "?continue=more&" + served,
		"GET " + servicesPath + "?" + served + "%2C%21service.kubernetes.io%2Fservice-proxy-name&limit=500",
		"GET " + slicesPath + "?continue=more&" + served + "&limit=500",
	} {
		if !slices.ContainsFunc(server.asked(), func(r string) bool { return sameRequest(r, want) }) {
			t.Errorf("%s was not asked: %v", want, server.asked())
		}
	}
	server.answers[slicesPath+"?more"] = `{"metadata":{},"items":[`
	if w := a.WantedServices(t.Context(), true); w.Sight != facts.Failed || len(w.List) > 0 || !strings.Contains(w.Detail, "listing EndpointSlices") {
		t.Errorf("cut short: %+v", w)
	}
}

// sameRequest does not care for the order of parameters.
func sameRequest(a, b string) bool {
	parts := func(s string) []string {
		out := strings.FieldsFunc(s, func(r rune) bool { return r == '?' || r == '&' })
		slices.Sort(out)
		return out
	}
	return slices.Equal(parts(a), parts(b))
}

func TestSaysWhichRightItLacksToListServices(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"services is forbidden: User \"x\" cannot list resource \"services\" in API group \"\" at the cluster scope"}`)
	}))
	t.Cleanup(server.Close)
	a := newAPI(t, &rest.Config{Host: server.URL}, func(bool) {})
	if w := a.WantedServices(t.Context(), true); w.Sight != facts.Failed || !strings.Contains(w.Detail, `cannot list resource "services"`) {
		t.Errorf("%+v", w.Look)
	}
}

func TestMoreEndpointsThanItHoldsAreNotTold(t *testing.T) {
	server, config := newFakeServer(t)
	server.answers[servicesPath+"?"] = `{"metadata":{},"items":[` + webService + `]}`
	addresses := make([]string, maxEndpoints+1)
	for i := range addresses {
		addresses[i] = fmt.Sprintf("%q", netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	server.answers[slicesPath+"?"] = `{"metadata":{},"items":[` + strings.Replace(fmt.Sprintf(webSlice, 3), `"10.244.1.3"`, strings.Join(addresses, ","), 1) + `]}`
	a := newAPI(t, config, func(bool) {})
	if w := a.WantedServices(t.Context(), true); w.Sight != facts.NotLooked || !strings.Contains(w.Detail, "more than 100000 endpoints") || len(w.List) > 0 {
		t.Errorf("%+v of %d", w.Look, w.Endpoints)
	}
}

// TestServicesAreComparedWhenAskedAndNoLongerHeldAgainstTheHost: an answer says what Services were then, and a Service that changes
// afterwards does not make it void.
func TestServicesAreComparedWhenAskedAndNoLongerHeldAgainstTheHost(t *testing.T) {
	for name, off := range map[string]bool{"asked": false, "switched off": true} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				api := ciliummap.Frontend{Addr: netip.MustParseAddrPort("10.96.0.1:443"), Proto: 6}
				backend := netip.MustParseAddrPort("10.0.0.5:443")
				s.set(func() {
					s.host.Programs = facts.Programs{Look: seen(), Sockets: []facts.SocketProgram{{Name: "cil_sock4_connect"}}}
					s.host.Services = facts.Services{Look: seen(), Services: ciliummap.NewServices(0)}
					s.host.Services.Frontends[api], s.host.Services.Slots[ciliummap.Slot{Frontend: api, Number: 1}] = ciliummap.Counts{Active: 1}, 1
					s.host.Services.Backends[1] = ciliummap.Backend{Addr: backend, Proto: 6}
					s.around.Kubernetes = facts.Kubernetes{Look: seen(), Frontend: api.Addr, Endpoints: []netip.AddrPort{backend}}
					s.wanted = facts.Wanted{Look: facts.Look{Sight: facts.Failed, Detail: "no right"}}
					s.agent.LookServices = func(facts.Programs) facts.Services { return s.host.Services }
					s.agent.Off = map[v1alpha1.CheckName]bool{v1alpha1.CheckServices: off}
				})
				reason := func() v1alpha1.Reason {
					for _, f := range s.last().Findings {
						if f.Check == v1alpha1.CheckServices {
							return f.Reason
						}
					}
					return ""
				}
				s.after(time.Minute)
				if s.services > 0 {
					t.Errorf("listed %d times, and nobody asked this node", s.services)
				}
				s.ask("q1", "uid-1", 10*time.Minute)
				s.after(time.Second)
				want, lists := v1alpha1.ServicesUnknown, 1
				if off {
					want, lists = v1alpha1.SwitchedOff, 0
				}
				if reason() != want || s.last().ChallengeID != "q1" || s.services != lists {
					t.Errorf("%s of %q with %d lists, want %s with %d", reason(), s.last().ChallengeID, s.services, want, lists)
				}
				said := len(s.writes)
				s.after(5 * time.Minute)
				s.wrote(t, said)
			})
		})
	}
}

// TestServicesThatDifferAreComparedAgain: what was just changing agrees at a later look, and what does not is read three times.
func TestServicesThatDifferAreComparedAgain(t *testing.T) {
	web := ciliummap.Frontend{Addr: netip.MustParseAddrPort("10.96.0.7:80"), Proto: 6}
	held := func(frontends ...ciliummap.Frontend) facts.Services {
		s := facts.Services{Look: seen(), Services: ciliummap.NewServices(0)}
		for _, f := range frontends {
			s.Frontends[f], s.Slots[ciliummap.Slot{Frontend: f, Number: 1}] = ciliummap.Counts{Active: 1}, 1
			s.Backends[1] = ciliummap.Backend{Addr: netip.MustParseAddrPort("10.244.1.3:8080")}
		}
		return s
	}
	wanted := facts.Wanted{Look: seen(), List: []facts.WantedService{{Name: "shop/web", Frontend: web, Endpoints: map[netip.AddrPort]bool{netip.MustParseAddrPort("10.244.1.3:8080"): true}}}}
	for name, c := range map[string]struct {
		maps  []facts.Services
		lists string
		same  bool
	}{
		"they agree":                         {[]facts.Services{held(web)}, "cached ", true},
		"Cilium follows":                     {[]facts.Services{held(), held(web)}, "cached fresh ", true},
		"Cilium follows late":                {[]facts.Services{held(), held(), held(web)}, "cached fresh fresh ", true},
		"Cilium does not follow":             {[]facts.Services{held(), held(), held()}, "cached fresh fresh ", false},
		"Cilium translates none":             {[]facts.Services{{}}, "", true},
		"the maps cannot be read any longer": {[]facts.Services{held(), {Look: facts.Look{Sight: facts.Failed}}}, "cached ", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, lists := facts.Facts{Services: c.maps[0]}, ""
				AskServices(t.Context(), &f, func(facts.Programs) facts.Services {
					c.maps = c.maps[1:]
					return c.maps[0]
				}, func(_ context.Context, cached bool) facts.Wanted {
					lists += map[bool]string{true: "cached ", false: "fresh "}[cached]
					return wanted
				})
				if lists != c.lists || len(c.maps) != 1 || check.ServicesDiffer(&f) == c.same {
					t.Errorf("asked %q with %d maps unread, differ %t", lists, len(c.maps)-1, check.ServicesDiffer(&f))
				}
			})
		})
	}
}
