// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/cni-cutover/cni-cutover/lab/standin/cilium/datapath"
)

const (
	systemNamespace = "kube-system"
	configMapName   = "cilium-config"
	resync          = 10 * time.Minute
)

func ciliumNodes() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumnodes"}
}

func ciliumNodeConfigs() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "cilium.io", Version: "v2", Resource: "ciliumnodeconfigs"}
}

// ciliumNode is the part of a CiliumNode (cilium.io/v2) that is read and written here.
type ciliumNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ciliumNodeSpec `json:"spec"`
}

type ciliumNodeSpec struct {
	Addresses []ciliumAddress `json:"addresses,omitempty"`
	BootID    string          `json:"bootid,omitempty"`
	Health    struct {
		IPv4 string `json:"ipv4,omitempty"`
	} `json:"health"`
	IPAM struct {
		PodCIDRs []string `json:"podCIDRs,omitempty"`
	} `json:"ipam"`
}

type ciliumAddress struct {
	Type string `json:"type"`
	IP   string `json:"ip"`
}

func fromUnstructured(obj runtime.Object) (ciliumNode, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return ciliumNode{}, fmt.Errorf("reading a CiliumNode: got a %T", obj)
	}
	var n ciliumNode
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &n); err != nil {
		return ciliumNode{}, fmt.Errorf("reading CiliumNode %s: %w", u.GetName(), err)
	}
	return n, nil
}

// parse turns the object into a member of the overlay; ok is false while it has no InternalIP.
// IPv6 addresses are passed over: there is no IPv6 in this overlay.
func (n ciliumNode) parse() (node datapath.Node, ok bool, err error) {
	node.Name = n.Name
	for _, address := range n.Spec.Addresses {
		ip, err := netip.ParseAddr(address.IP)
		if err != nil {
			return datapath.Node{}, false, fmt.Errorf("reading an address of CiliumNode %s: %w", n.Name, err)
		}
		switch {
		case !ip.Is4():
		case address.Type == string(corev1.NodeInternalIP):
			node.IP = ip
		case address.Type == "CiliumInternalIP":
			node.Router = ip
		}
	}
	if n.Spec.Health.IPv4 != "" {
		node.Health, err = netip.ParseAddr(n.Spec.Health.IPv4)
		if err != nil || !node.Health.Is4() {
			return datapath.Node{}, false, fmt.Errorf("reading the health address %q of CiliumNode %s: want an IPv4 address", n.Spec.Health.IPv4, n.Name)
		}
	}
	for _, text := range n.Spec.IPAM.PodCIDRs {
		cidr, err := netip.ParsePrefix(text)
		if err != nil {
			return datapath.Node{}, false, fmt.Errorf("reading a pod CIDR of CiliumNode %s: %w", n.Name, err)
		}
		if cidr.Addr().Is4() {
			node.PodCIDR = append(node.PodCIDR, cidr)
		}
	}
	return node, node.IP.IsValid(), nil
}

// kubeCluster is the cluster that the API server knows.
type kubeCluster struct {
	name string
	core kubernetes.Interface
	dyn  dynamic.Interface
}

func newKubeCluster(name string) (*kubeCluster, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the pod's service account: %w", err)
	}
	config.QPS, config.Burst = 50, 100
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return &kubeCluster{name: name, core: core, dyn: dyn}, nil
}

// join creates the node's CiliumNode, or makes an existing one its own, and waits until the operator
// has given it a slice.
func (k *kubeCluster) join(ctx context.Context) (datapath.Node, error) {
	var joined datapath.Node
	err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		node, err := k.core.CoreV1().Nodes().Get(ctx, k.name, metav1.GetOptions{})
		if err != nil {
			return false, nilUnlessDenied(err)
		}
		found, err := k.dyn.Resource(ciliumNodes()).Get(ctx, k.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			found, err = k.create(ctx, node)
		}
		if err != nil {
			return false, nilUnlessDenied(err)
		}
		have, err := fromUnstructured(found)
		if err != nil {
			return false, err
		}
		if stale(have, node) {
			_, err := k.patch(ctx, ownershipOf(node))
			return false, nilUnlessDenied(err)
		}
		joined, _, err = have.parse()
		return len(joined.PodCIDR) > 0 && joined.IP.IsValid(), err
	})
	if err != nil {
		return datapath.Node{}, fmt.Errorf("waiting for the pod CIDR of CiliumNode %s (the operator assigns it): %w", k.name, err)
	}
	return joined, nil
}

// nilUnlessDenied lets a poll go on after errors that pass: no server yet, no CRD yet.
func nilUnlessDenied(err error) error {
	if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
		return err
	}
	return nil
}

func (k *kubeCluster) create(ctx context.Context, node *corev1.Node) (*unstructured.Unstructured, error) {
	object := map[string]any{"apiVersion": "cilium.io/v2", "kind": "CiliumNode"}
	maps.Copy(object, ownershipOf(node))
	object["metadata"].(map[string]any)["name"] = node.Name
	return k.dyn.Resource(ciliumNodes()).Create(ctx, &unstructured.Unstructured{Object: object}, metav1.CreateOptions{})
}

// ownershipOf is what a CiliumNode takes from its Node.
func ownershipOf(node *corev1.Node) map[string]any {
	object := map[string]any{}
	nodeLabels := map[string]any{}
	for key, value := range node.Labels {
		nodeLabels[key] = value
	}
	object["metadata"] = map[string]any{
		"labels": nodeLabels,
		"ownerReferences": []any{map[string]any{
			"apiVersion": "v1", "kind": "Node", "name": node.Name, "uid": string(node.UID),
		}},
	}
	object["spec"] = map[string]any{
		"addresses": []any{map[string]any{"type": string(corev1.NodeInternalIP), "ip": internalIP(node)}},
		"bootid":    node.Status.NodeInfo.BootID,
	}
	return object
}

// stale says whether the object belongs to an earlier Node of that name, or to an earlier boot or address.
func stale(have ciliumNode, node *corev1.Node) bool {
	for _, owner := range have.OwnerReferences {
		if owner.UID != node.UID {
			return true
		}
	}
	parsed, ok, err := have.parse()
	return err == nil && (!ok || parsed.IP.String() != internalIP(node) || have.Spec.BootID != node.Status.NodeInfo.BootID)
}

func internalIP(node *corev1.Node) string {
	for _, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			return address.Address
		}
	}
	return ""
}

func (k *kubeCluster) patch(ctx context.Context, object map[string]any) (*unstructured.Unstructured, error) {
	raw, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("writing a patch: %w", err)
	}
	return k.dyn.Resource(ciliumNodes()).Patch(ctx, k.name, types.MergePatchType, raw, metav1.PatchOptions{})
}

func (k *kubeCluster) announce(ctx context.Context, self datapath.Node) error {
	_, err := k.patch(ctx, map[string]any{"spec": map[string]any{
		"addresses": []any{
			map[string]any{"type": string(corev1.NodeInternalIP), "ip": self.IP.String()},
			map[string]any{"type": "CiliumInternalIP", "ip": self.Router.String()},
		},
		"health": map[string]any{"ipv4": self.Health.String()},
	}})
	if err != nil {
		return fmt.Errorf("announcing the addresses of %s: %w", self.Name, err)
	}
	return nil
}

func (k *kubeCluster) watch(ctx context.Context, changed func([]datapath.Node)) error {
	factory := dynamicinformer.NewDynamicSharedInformerFactory(k.dyn, resync)
	informer := factory.ForResource(ciliumNodes())
	signal := make(chan struct{}, 1)
	poke := func() {
		select {
		case signal <- struct{}{}:
		default:
		}
	}
	_, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { poke() }, UpdateFunc: func(any, any) { poke() }, DeleteFunc: func(any) { poke() },
	})
	if err != nil {
		return fmt.Errorf("watching CiliumNodes: %w", err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		return ctx.Err()
	}
	for {
		peers, err := k.peers(informer.Lister())
		if err != nil {
			return err
		}
		changed(peers)
		select {
		case <-ctx.Done():
			return nil
		case <-signal:
		}
	}
}

func (k *kubeCluster) peers(lister cache.GenericLister) ([]datapath.Node, error) {
	objects, err := lister.List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing CiliumNodes: %w", err)
	}
	var peers []datapath.Node
	for _, object := range objects {
		read, err := fromUnstructured(object)
		if err != nil {
			return nil, err
		}
		node, ok, err := read.parse()
		if err != nil {
			slog.Error("passing over a peer", "err", err) // one broken object must not cut off all nodes
			continue
		}
		if ok && node.Name != k.name {
			peers = append(peers, node)
		}
	}
	return peers, nil
}
