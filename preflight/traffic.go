// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

// Traffic is who sends packets to pods.
type Traffic struct {
	// Workloads are those behind Services.
	Workloads []Workload `json:"workloads,omitempty"`
}

// Workload is the pods of one controller.
type Workload struct {
	Namespace string `json:"namespace"`
	// Object that a person would change, as kubectl names it: deployment/web; pod/web is a pod without a controller.
	Object string `json:"object"`
	// Services of its namespace that select it.
	Services []string `json:"services"`
	// Unprobed are its ports that a Service uses and no readiness probe stands for.
	Unprobed []Port `json:"unprobed,omitempty"`
}

// Port is a port of a container.
type Port struct {
	Container string `json:"container"`
	Number    int32  `json:"number"`
}
