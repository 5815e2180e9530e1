// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsnode

import _ "embed" // for the manifest

//go:embed aws-node.yaml
var manifest string

// Manifest returns what to apply to a cluster, YAML documents: ServiceAccount and DaemonSet
// kube-system/aws-node, image lab/standin:dev.
func Manifest() []byte { return []byte(manifest) }
