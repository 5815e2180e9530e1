// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package cilium

import _ "embed"

// Manifest is everything to apply, as YAML documents: CRDs, RBAC, cilium-config, the agent's
// DaemonSet and the operator's Deployment. As it stands the agents write no conflist (custom-cni-conf).
//
//go:embed cilium.yaml
var Manifest []byte
