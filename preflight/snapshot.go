// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package preflight judges a whole cluster before anything moves: what will break, why, and the command that mends it. It
// judges a snapshot, which package preflight/gather takes and which can be kept and judged again elsewhere; no secret is in it.
//
// The verdicts are those of the contract. Fail blocks: traffic, nodes or the API are lost. Warn will surprise. Unknown: it was
// not seen, and the message says what would settle it.
package preflight

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
)

// Snapshot is what the checks look at.
type Snapshot struct {
	// Format of the snapshot; another one is not read.
	Format int `json:"format"`
	// TakenAt and Server say when and where it was taken.
	TakenAt time.Time `json:"takenAt"`
	Server  string    `json:"server"`
	// Overlay are the pod networks that nodes move to, NodeMaskSize a node's slice, Joining how many nodes join at once while
	// old ones are still there.
	Overlay      []string `json:"overlay"`
	NodeMaskSize int      `json:"nodeMaskSize"`
	Joining      int      `json:"joining"`
	// TunnelPort is the UDP port of the overlay.
	TunnelPort int32 `json:"tunnelPort,omitempty"`
	// VPC are the networks of the VPC and of what is routed to it, as a person named them.
	VPC         []string     `json:"vpc"`
	Services    []string     `json:"services"`
	Network     Network      `json:"network"`
	Traffic     Traffic      `json:"traffic"`
	Nodes       []Node       `json:"nodes"`
	CiliumNodes []CiliumNode `json:"ciliumNodes"`
	Callbacks   []Callback   `json:"callbacks"`
	// Rollout are the Cutover's terms, Selector its choice of nodes; empty: all.
	Rollout  v1alpha1.Rollout `json:"rollout"`
	Selector string           `json:"selector,omitempty"`
	// Rolled nodes there are already, and those in a slot.
	Rolled int32    `json:"rolled,omitempty"`
	Slots  []string `json:"slots,omitempty"`
	// Pods are those that are on nodes, Needs what they ask of one, Budgets the PodDisruptionBudgets, DaemonSets their names, as namespace/name.
	Pods       []Pod    `json:"pods"`
	Needs      []Needs  `json:"needs"`
	Budgets    []Budget `json:"budgets"`
	DaemonSets []string `json:"daemonSets"`
	// NodePools and NodeClaims are Karpenter's, Autoscalers pods of cluster-autoscaler.
	NodePools   []NodePool   `json:"nodePools"`
	NodeClaims  []NodeClaim  `json:"nodeClaims"`
	Autoscalers []Autoscaler `json:"autoscalers"`
	// NodeClasses are Karpenter's for EC2.
	NodeClasses []NodeClass `json:"nodeClasses,omitempty"`
	// AWS is what AWS itself says; nil: it was not asked.
	AWS *AWS `json:"aws,omitempty"`
	// Missing is what could not be read.
	Missing []Missing `json:"missing"`
}

// CutoverResource is how rights name the Cutover. A snapshot in which it is missing holds defaults in its place.
const CutoverResource = "cutovers.cni-cutover.dev"

// Format is the format of snapshots that this version writes and reads.
const Format = 2

// Node is a Node.
type Node struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"` // InternalIPs
	NodeInfo
}

// CiliumNode is a node's entry in Cilium's pool.
type CiliumNode struct {
	Name     string   `json:"name"`
	PodCIDRs []string `json:"podCIDRs"`
}

// The kinds of callbacks.
const (
	Validating = "ValidatingWebhookConfiguration"
	Mutating   = "MutatingWebhookConfiguration"
	Conversion = "CustomResourceDefinition"
	Aggregated = "APIService"
)

// Callback is something that the API server calls: a webhook, a conversion, an aggregated API. EKS' API server stands outside
// of the cluster and reaches the VPC alone.
type Callback struct {
	Kind   string `json:"kind"`
	Object string `json:"object"`
	// Name of the webhook in its object; empty for the others.
	Name string `json:"name,omitempty"`
	// Outside: it is called by a URL, not by a Service.
	Outside   bool   `json:"outside,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Service   string `json:"service,omitempty"`
	// Ignore: the API server goes on without it (failurePolicy Ignore).
	Ignore bool `json:"ignore,omitempty"`
	// Intercepts are the resources that need it: pods, deployments.apps, *.cert-manager.io, or * for all. Selective: selectors
	// or conditions leave some objects of them out.
	Intercepts []string `json:"intercepts,omitempty"`
	Selective  bool     `json:"selective,omitempty"`
	// Backends are the pods behind it. Found says whether the Service is there at all.
	Found    bool      `json:"found"`
	Backends []Backend `json:"backends,omitempty"`
	// Ports of the backends that the API server calls.
	Ports []int32 `json:"ports,omitempty"`
	// Broken is what the API server says of an aggregated API that does not answer.
	Broken string `json:"broken,omitempty"`
	// Unread: its Service, endpoints or pods could not be read, and Missing says why.
	Unread bool `json:"unread,omitempty"`
}

// Backend is one endpoint of a callback.
type Backend struct {
	Address string `json:"address"`
	// Pod behind it, as namespace/name; empty: the endpoint names none.
	Pod         string `json:"pod,omitempty"`
	HostNetwork bool   `json:"hostNetwork,omitempty"`
}

// Missing is a request that was refused.
type Missing struct {
	Verb      string `json:"verb"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace,omitempty"`
	Error     string `json:"error"`
}

// snapshotFile is the one file in a saved snapshot.
const snapshotFile = "snapshot.json"

// maxSnapshot bounds what is unpacked, in bytes.
const maxSnapshot = 512 << 20

// Save writes a snapshot as a gzipped tar archive.
func (s *Snapshot) Save(w io.Writer) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("saving the snapshot: %w", err)
	}
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	header := &tar.Header{Name: snapshotFile, Mode: 0o600, Size: int64(len(data)), ModTime: s.TakenAt, Format: tar.FormatPAX}
	err = archive.WriteHeader(header)
	if err == nil {
		_, err = archive.Write(data)
	}
	if err := errors.Join(err, archive.Close(), zipped.Close()); err != nil {
		return fmt.Errorf("saving the snapshot: %w", err)
	}
	return nil
}

// Load reads what Save wrote.
func Load(r io.Reader) (*Snapshot, error) {
	zipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("loading a snapshot: %w", err)
	}
	archive := tar.NewReader(io.LimitReader(zipped, maxSnapshot))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("loading a snapshot: there is no %s in it", snapshotFile)
		}
		if err != nil {
			return nil, fmt.Errorf("loading a snapshot: %w", err)
		}
		if header.Name != snapshotFile {
			continue
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("loading a snapshot: %w", err)
		}
		s := &Snapshot{}
		decoder := json.NewDecoder(bytes.NewReader(data))
		if err := decoder.Decode(s); err != nil {
			return nil, fmt.Errorf("loading a snapshot: %w", err)
		}
		if s.Format != Format {
			return nil, fmt.Errorf("loading a snapshot: its format is %d, this version reads %d: take it again", s.Format, Format)
		}
		return s, nil
	}
}
