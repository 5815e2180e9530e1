// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of this project.
const Group = "cni-cutover.dev"

// GroupVersion returns the group and version that every kind of this package belongs to.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: "v1alpha1"}
}

// AddToScheme makes the kinds of this package known to a scheme. It never returns an error; the signature is the one
// that runtime.SchemeBuilder wants.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion(), &Cutover{}, &CutoverList{}, &NodeCutover{}, &NodeCutoverList{})
	metav1.AddToGroupVersion(scheme, GroupVersion())
	return nil
}
