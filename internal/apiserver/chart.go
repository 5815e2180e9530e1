// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// InstallAccounts creates a namespace and, in it, the chart's ServiceAccounts with their roles, and the policy that binds
// agents to their nodes. Programs that a test runs then have the rights that they have in a cluster; see As.
func (s *Server) InstallAccounts(ctx context.Context, namespace string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	helm := filepath.Join(root, "bin", "helm")
	if _, err := os.Stat(helm); err != nil {
		return fmt.Errorf("looking for the pinned helm: %w; build it: tools/install helm", err)
	}
	// The version is one that the chart accepts: without a cluster helm knows none.
	render := exec.CommandContext(ctx, helm, "template", "cni-cutover", filepath.Join(root, "charts", "cni-cutover"), "--namespace", namespace, "--kube-version", "1.35.0")
	var complaint bytes.Buffer
	render.Stderr = &complaint
	manifests, err := render.Output()
	if err != nil {
		return fmt.Errorf("rendering the chart: %w: %s", err, &complaint)
	}
	c, err := client.New(s.config, client.Options{})
	if err != nil {
		return fmt.Errorf("making a client for the chart: %w", err)
	}
	if err := create(ctx, c, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return err
	}
	kinds := []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(&object.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading the rendered chart: %w", err)
		}
		if slices.Contains(kinds, object.GetKind()) {
			if err := create(ctx, c, object); err != nil {
				return err
			}
		}
	}
}

func create(ctx context.Context, c client.Client, object client.Object) error {
	if err := c.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating %T %s: %w", object, client.ObjectKeyFromObject(object), err)
	}
	return nil
}

// As returns the configuration of a client that is a ServiceAccount, or, with pod, the pod of one: its token names the pod
// and the pod's node, as the policy on agents wants. It is good for an hour.
func (s *Server) As(ctx context.Context, namespace, account string, pod *corev1.Pod) (*rest.Config, error) {
	kube, err := kubernetes.NewForConfig(s.config)
	if err != nil {
		return nil, fmt.Errorf("making a client for tokens: %w", err)
	}
	request := &authenticationv1.TokenRequest{}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	token, err := kube.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("asking for a token of %s/%s: %w", namespace, account, err)
	}
	config := rest.AnonymousClientConfig(s.config)
	config.QPS, config.BearerToken = -1, token.Status.Token
	return config, nil
}
