// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pod is a pod that is on a node, as far as its leaving goes.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Node      string `json:"node"`
	// Owner is its controller.
	Owner Owner `json:"owner,omitzero"`
	// Deployment that its ReplicaSet belongs to.
	Deployment string          `json:"deployment,omitempty"`
	Phase      corev1.PodPhase `json:"phase,omitempty"`
	Ready      bool            `json:"ready,omitempty"`
	// Deleted is when it is to be gone, if it was told to go.
	Deleted *time.Time `json:"deleted,omitempty"`
	// Grace is how long its processes may take to end, in seconds.
	Grace int64 `json:"grace,omitempty"`
	// Mirror: a kubelet's own pod, from a file.
	Mirror bool `json:"mirror,omitempty"`
	// EmptyDir: it has volumes of that kind. HostPath: it writes to volumes of that kind.
	EmptyDir bool `json:"emptyDir,omitempty"`
	HostPath bool `json:"hostPath,omitempty"`
	// LocalClaims are its claims whose PersistentVolumes exist on its node alone.
	LocalClaims []string `json:"localClaims,omitempty"`
	// Keep is the annotation by which it asks not to be disrupted.
	Keep string `json:"keep,omitempty"`
	// Budgets are the PodDisruptionBudgets of its namespace that select it.
	Budgets []string `json:"budgets,omitempty"`
	// Needs is what it needs of a node, as a place in the snapshot's list of these: pods of a kind need the same.
	Needs int `json:"needs,omitempty"`
	// HostPorts are the ports of its node that it takes without being on the host network.
	HostPorts []int32 `json:"hostPorts,omitempty"`
	// Alone: no two of its kind may be on one node (required anti-affinity by hostname, or a host port).
	Alone bool `json:"alone,omitempty"`
}

// Needs is what pods ask of a node.
type Needs struct {
	// CPU in thousandths and Memory in bytes that they request.
	CPU    int64 `json:"cpu,omitempty"`
	Memory int64 `json:"memory,omitempty"`
	// NodeSelector and Affinity say which nodes, Tolerations which taints they bear.
	NodeSelector map[string]string    `json:"nodeSelector,omitempty"`
	Affinity     *corev1.NodeSelector `json:"affinity,omitempty"`
	Tolerations  []corev1.Toleration  `json:"tolerations,omitempty"`
}

// Owner is the controller of a pod.
type Owner struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
	Name       string `json:"name,omitempty"`
}

// Budget is a PodDisruptionBudget.
type Budget struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// MinAvailable and MaxUnavailable are as written: a number or a percentage.
	MinAvailable   string `json:"minAvailable,omitempty"`
	MaxUnavailable string `json:"maxUnavailable,omitempty"`
	// AlwaysAllow: a pod that is not Ready may always be evicted (unhealthyPodEvictionPolicy).
	AlwaysAllow bool `json:"alwaysAllow,omitempty"`
	// Behind: its controller has not looked at it since it was last changed.
	Behind bool `json:"behind,omitempty"`
	// Trouble is why its controller cannot count its pods.
	Trouble string `json:"trouble,omitempty"`
	// Pods that it selects, of them healthy ones and the fewest that must be, and how many may be evicted now.
	Expected int32 `json:"expected"`
	Healthy  int32 `json:"healthy"`
	Desired  int32 `json:"desired"`
	Allowed  int32 `json:"allowed"`
}

// ID is namespace/name.
func (p *Pod) ID() string { return p.Namespace + "/" + p.Name }

// workload is the object that a person would change, as kubectl names it: deployment/web, statefulset/db.
func (p *Pod) workload() string {
	if p.Deployment != "" {
		return "deployment/" + p.Deployment
	}
	return strings.ToLower(p.Owner.Kind) + "/" + p.Owner.Name
}

// finished says whether its processes have ended for good.
func (p *Pod) finished() bool { return p.Phase == corev1.PodSucceeded || p.Phase == corev1.PodFailed }

// shape is all that the rules of a drain look at in a pod. Many pods have the same.
type shape struct {
	namespace                 string
	owner                     Owner
	phase                     corev1.PodPhase
	deleted, mirror, emptyDir bool
}

func (p *Pod) shape() shape {
	s := shape{p.Namespace, p.Owner, p.Phase, p.Deleted != nil, p.Mirror, p.EmptyDir}
	if s.owner.Kind != "DaemonSet" { // of others nobody asks whether they are there
		s.namespace, s.owner.Name = "", ""
	}
	return s
}

// shapeName is the name of every pod that stands for others of its shape.
const shapeName = "any"

// object is a pod of a shape.
func (s shape) object() corev1.Pod {
	o := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: shapeName}, Status: corev1.PodStatus{Phase: s.phase}}
	if s.owner.Kind != "" {
		controller := true
		o.OwnerReferences = []metav1.OwnerReference{{APIVersion: s.owner.APIVersion, Kind: s.owner.Kind, Name: s.owner.Name, Controller: &controller}}
	}
	if s.deleted {
		o.DeletionTimestamp = &metav1.Time{}
	}
	if s.mirror {
		o.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: ""}
	}
	if s.emptyDir {
		o.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	}
	return o
}
