// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package drain says which pods have to leave a node, and asks them to, one Eviction each. kubectl's own rules choose the
// pods (k8s.io/kubectl/pkg/drain); its loop, which blocks until the last pod is gone, is not used: a coordinator that may
// die at any line looks, asks, and looks again.
package drain

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/cni-cutover/cni-cutover/coordinator/plan"
)

// Pods returns the pods that are on a node.
func Pods(ctx context.Context, client kubernetes.Interface, node string) ([]corev1.Pod, error) {
	list, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("listing the pods of node %s: %w", node, err)
	}
	return list.Items, nil
}

// DaemonSetsOf returns the names of the DaemonSets that pods belong to, each once.
func DaemonSetsOf(pods []corev1.Pod) []types.NamespacedName {
	names := map[types.NamespacedName]bool{}
	for i := range pods {
		if owner := metav1.GetControllerOf(&pods[i]); owner != nil && owner.Kind == "DaemonSet" {
			names[types.NamespacedName{Namespace: pods[i].Namespace, Name: owner.Name}] = true
		}
	}
	return slices.Collect(maps.Keys(names))
}

// Evict posts one Eviction for a pod, with its UID as a precondition so that a pod that was re-created under the same name
// is left alone. It returns nil if the pod is going or gone.
func Evict(ctx context.Context, client kubernetes.Interface, pod plan.Pod) error {
	uid := pod.UID
	err := client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
	})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("evicting pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// Attached returns the names of the volumes that are attached, by the name of their node. VolumeAttachments have no field
// selector for it.
func Attached(ctx context.Context, client kubernetes.Interface) (map[string][]string, error) {
	list, err := client.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing volume attachments: %w", err)
	}
	names := map[string][]string{}
	for i := range list.Items {
		a := &list.Items[i]
		name := a.Name // of a volume written into its pod, without a PersistentVolume
		if volume := a.Spec.Source.PersistentVolumeName; volume != nil {
			name = *volume
		}
		names[a.Spec.NodeName] = append(names[a.Spec.NodeName], name)
	}
	return names, nil
}
