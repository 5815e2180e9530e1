// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Renew renews the lease of a node.
func Renew(ctx context.Context, c client.Client, node string) error {
	return (&kubelets{cached: c}).renew(ctx, node)
}
