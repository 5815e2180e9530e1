// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
)

// Slim takes away from an object what nothing here reads, before a cache keeps it: of a Node most of it are the names of the
// images there, and of a pod nothing counts but whose it is, where it is and whether it is going. With 5,000 nodes and two CNI
// pods on each this is most of the coordinator's memory. It is a transform of client-go's informers.
func Slim(object any) (any, error) {
	if o, err := meta.Accessor(object); err == nil {
		o.SetManagedFields(nil)
	}
	switch o := object.(type) {
	case *corev1.Node:
		s := &o.Status
		s.Images, s.VolumesInUse, s.VolumesAttached, s.Capacity, s.Allocatable, s.Addresses = nil, nil, nil, nil, nil, nil
		s.NodeInfo = corev1.NodeSystemInfo{BootID: s.NodeInfo.BootID}
	case *corev1.Pod:
		o.Labels, o.Annotations = nil, nil
		o.Spec = corev1.PodSpec{NodeName: o.Spec.NodeName}
		o.Status = corev1.PodStatus{Phase: o.Status.Phase}
	}
	return object, nil
}
