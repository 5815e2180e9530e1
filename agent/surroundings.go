// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/cni-cutover/cni-cutover/agent/facts"
	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Surroundings is what the Kubernetes API says that the host cannot.
type Surroundings struct {
	Settings facts.Settings
	Node     facts.Node
	Own      facts.Own
	Pods     facts.Pods
	Peers    facts.Peers
	// Kubernetes is read only together with the peers.
	Kubernetes facts.Kubernetes
}

// Surroundings asks the API server for everything at the same time; the pods are read afresh, not from what the watch
// said. Peers are listed only if wanted. Each part says by itself how it went.
func (a *API) Surroundings(ctx context.Context, peers bool) Surroundings {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var (
		s  Surroundings
		wg sync.WaitGroup
	)
	wg.Go(func() { s.Settings = a.settings(ctx) })
	wg.Go(func() { s.Node = a.self(ctx) })
	wg.Go(func() { s.Pods = a.livePods(ctx) })
	if peers {
		wg.Go(func() { s.Kubernetes = a.kubernetes(ctx) })
	}
	wg.Go(func() {
		if peers {
			s.Own, s.Peers = a.ciliumNodes(ctx)
		} else {
			s.Own = a.ownCiliumNode(ctx)
		}
	})
	wg.Wait()
	return s
}

func (a *API) settings(ctx context.Context) facts.Settings {
	c := new(v1alpha1.Cutover)
	if err := a.cutover.Get().Resource("cutovers").Name(v1alpha1.CutoverName).Do(ctx).Into(c); err != nil {
		return facts.Settings{Look: lookOf("reading the Cutover", err)}
	}
	return facts.SettingsOf(c)
}

func (a *API) self(ctx context.Context) facts.Node {
	n := new(corev1.Node)
	if err := a.core.Get().Resource("nodes").Name(a.node).Do(ctx).Into(n); err != nil {
		return facts.Node{Look: lookOf("reading Node "+a.node, err)}
	}
	return facts.NodeOf(n)
}

func (a *API) livePods(ctx context.Context) facts.Pods {
	list := new(corev1.PodList)
	err := a.core.Get().Resource("pods").Param("fieldSelector", "spec.nodeName="+a.node).Do(ctx).Into(list)
	if err != nil {
		return facts.Pods{Look: lookOf("listing the pods of this node", err)}
	}
	out := facts.Pods{Look: facts.Look{Sight: facts.Seen}}
	for i := range list.Items {
		out.List = append(out.List, facts.PodOf(&list.Items[i]))
	}
	return out
}

// kubernetes reads two small objects of one name.
func (a *API) kubernetes(ctx context.Context) facts.Kubernetes {
	const namespace, name = metav1.NamespaceDefault, "kubernetes"
	s, e := new(corev1.Service), new(discoveryv1.EndpointSlice)
	if err := a.core.Get().Namespace(namespace).Resource("services").Name(name).Do(ctx).Into(s); err != nil {
		return facts.Kubernetes{Look: lookOf("reading Service default/kubernetes", err)}
	}
	if err := a.core.Get().AbsPath("/apis/discovery.k8s.io/v1/namespaces", namespace, "endpointslices", name).Do(ctx).Into(e); err != nil {
		return facts.Kubernetes{Look: lookOf("reading EndpointSlice default/kubernetes", err)}
	}
	k, err := facts.KubernetesOf(s, e)
	if err != nil {
		return facts.Kubernetes{Look: facts.Look{Sight: facts.Failed, Detail: err.Error()}}
	}
	return k
}

// PeerNodes reads the Nodes of peers, eight at a time.
func (a *API) PeerNodes(ctx context.Context, names []string) map[string]facts.PeerNode {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var (
		out   = make(map[string]facts.PeerNode, len(names))
		lock  sync.Mutex
		wg    sync.WaitGroup
		slots = make(chan struct{}, 8)
	)
	for _, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			n, node := new(corev1.Node), facts.PeerNode{}
			if err := a.core.Get().Resource("nodes").Name(name).Do(ctx).Into(n); err != nil {
				node.Look = lookOf("reading Node "+name, err)
			} else {
				node = facts.PeerNodeOf(n)
			}
			lock.Lock()
			defer lock.Unlock()
			out[name] = node
		})
	}
	wg.Wait()
	return out
}

const ciliumNodesPath = "/apis/cilium.io/v2/ciliumnodes"

func (a *API) ownCiliumNode(ctx context.Context) facts.Own {
	body, err := a.raw(a.cutover.Get().AbsPath(ciliumNodesPath, a.node)).Stream(ctx)
	if err != nil {
		return facts.Own{Look: lookOf("reading CiliumNode "+a.node, err)}
	}
	defer body.Close()
	var o facts.CiliumNodeObject
	if err := json.NewDecoder(body).Decode(&o); err != nil {
		return facts.Own{Look: lookOf("decoding CiliumNode "+a.node, err)}
	}
	return own(&o)
}

func own(o *facts.CiliumNodeObject) facts.Own {
	n, err := facts.CiliumNodeOf(o)
	if err != nil {
		return facts.Own{Look: facts.Look{Sight: facts.Failed, Detail: err.Error()}}
	}
	return facts.Own{Look: facts.Look{Sight: facts.Seen}, CiliumNode: n}
}

// ciliumNodes lists all CiliumNodes. Resource version 0 lets the API server answer from its watch cache, which may lag by
// moments: a peer that is missing there is too young to be required, one that is gone has no Node any more.
func (a *API) ciliumNodes(ctx context.Context) (facts.Own, facts.Peers) {
	self := facts.Own{Look: facts.Look{Sight: facts.Absent, Detail: "there is no CiliumNode " + a.node}}
	peers := facts.Peers{Look: facts.Look{Sight: facts.Seen}}
	each := func(o *facts.CiliumNodeObject) error {
		if o.Metadata.Name == a.node {
			self = own(o)
			return nil
		}
		n, err := facts.CiliumNodeOf(o)
		peers.List = append(peers.List, facts.Peer{CiliumNode: n})
		return err
	}
	if err := list(ctx, a, ciliumNodesPath, map[string]string{"resourceVersion": "0"}, each); err != nil {
		l := lookOf("listing CiliumNodes", err)
		l.Sight = facts.Failed // also where Cilium's CRDs are missing: that is no list of no peers
		return facts.Own{Look: l}, facts.Peers{Look: l}
	}
	return self, peers
}

// list hands over one object after the other, page by page if the API server answers so.
func list[T any](ctx context.Context, a *API, path string, params map[string]string, each func(*T) error) error {
	for more := ""; ; {
		request := a.raw(a.cutover.Get().AbsPath(path))
		for name, value := range params {
			if more == "" || name != "resourceVersion" { // which a token has already
				request.Param(name, value)
			}
		}
		if more != "" {
			request.Param("continue", more)
		}
		var err error
		if more, err = page(ctx, request, each); err != nil || more == "" {
			return err
		}
	}
}

func page[T any](ctx context.Context, request *rest.Request, each func(*T) error) (string, error) {
	body, err := request.Stream(ctx)
	if err != nil {
		return "", err
	}
	defer body.Close()
	return decodeList(body, each)
}

// raw asks for JSON: Cilium's types are not in our scheme, and custom resources have no other form worth having.
func (a *API) raw(r *rest.Request) *rest.Request { return r.SetHeader("Accept", "application/json") }

// decodeList reads a list object item by item, so that a list of thousands never lies in memory, and returns its continue token.
func decodeList[T any](r io.Reader, each func(*T) error) (string, error) {
	dec := json.NewDecoder(r)
	if err := expect(dec, json.Delim('{')); err != nil {
		return "", err
	}
	var (
		meta  struct{ Continue string }
		items bool
	)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return "", err
		}
		switch key {
		case "items":
			items = true
			err = decodeItems(dec, each)
		case "metadata":
			err = dec.Decode(&meta)
		default:
			err = dec.Decode(new(json.RawMessage))
		}
		if err != nil {
			return "", err
		}
	}
	if err := expect(dec, json.Delim('}')); err != nil {
		return "", err
	}
	if !items {
		return "", errors.New("the answer is no list: it has no items")
	}
	return meta.Continue, nil
}

func decodeItems[T any](dec *json.Decoder, each func(*T) error) error {
	if err := expect(dec, json.Delim('[')); err != nil {
		return err
	}
	for dec.More() {
		var o T
		if err := dec.Decode(&o); err != nil {
			return err
		}
		if err := each(&o); err != nil {
			return err
		}
	}
	return expect(dec, json.Delim(']'))
}

func expect(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("found %v where the list should have %v", got, want)
	}
	return nil
}

// lookOf sorts an error of the API server: only its own word that there is no such object is Absent.
func lookOf(doing string, err error) facts.Look {
	sight := facts.Failed
	if apierrors.IsNotFound(err) {
		sight = facts.Absent
	}
	return facts.Look{Sight: sight, Detail: fmt.Sprintf("%s: %v", doing, err)}
}
