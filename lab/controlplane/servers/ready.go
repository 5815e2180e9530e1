// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cni-cutover/cni-cutover/lab/controlplane/pki"
)

const (
	probePeriod  = 50 * time.Millisecond
	probeTimeout = 2 * time.Second
)

// newProbe returns a client with the administrator's rights that dials the API server where the
// controller manager does: the address in the admin kubeconfig may be a listener that does not exist yet.
func newProbe(d pki.Dir) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", d.Kubeconfig("admin"))
	if err != nil {
		return nil, fmt.Errorf("reading the admin kubeconfig: %w; the apiserver writes it, start that one first", err)
	}
	internal, err := clientcmd.BuildConfigFromFlags("", d.Kubeconfig(ControllerManager))
	if err != nil {
		return nil, fmt.Errorf("reading the controller manager's kubeconfig: %w; the apiserver writes it, start that one first", err)
	}
	config.Host = internal.Host
	config.Timeout = probeTimeout
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
	}
	return client, nil
}

// awaitAPIServer returns when /readyz answers 200. Errors on the way are what not being ready looks like.
func awaitAPIServer(ctx context.Context, client kubernetes.Interface) error {
	return poll(ctx, func(ctx context.Context) error {
		code := 0
		if err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&code).Error(); err != nil {
			return err
		}
		if code != http.StatusOK {
			return fmt.Errorf("/readyz answers %d", code)
		}
		return nil
	})
}

// awaitControllers returns when controllers do their work: the default ServiceAccount exists, and the root
// certificate that was just taken away from kube-public (which no pod uses) has been published again.
// The removal makes it true also of a directory in which both exist from an earlier run.
func awaitControllers(ctx context.Context, client kubernetes.Interface) error {
	const rootCA = "kube-root-ca.crt"
	published := client.CoreV1().ConfigMaps(metav1.NamespacePublic)
	if err := poll(ctx, func(ctx context.Context) error {
		if err := published.Delete(ctx, rootCA, metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	}); err != nil {
		return err
	}
	return poll(ctx, func(ctx context.Context) error {
		_, missing := published.Get(ctx, rootCA, metav1.GetOptions{})
		_, account := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return errors.Join(missing, account)
	})
}

// poll calls f until it returns nil or ctx ends; then its last error is the reason.
func poll(ctx context.Context, f func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, probePeriod, true, func(ctx context.Context) (bool, error) {
		last = f(ctx)
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}
