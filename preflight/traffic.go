// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

// Traffic is who sends packets to pods.
type Traffic struct {
	// Workloads are those behind Services.
	Workloads []Workload `json:"workloads,omitempty"`
	Services  []Service  `json:"services,omitempty"`
	// Controllers are pods of the AWS Load Balancer Controller, one of each kind.
	Controllers []Controller   `json:"controllers,omitempty"`
	Ingresses   []Ingress      `json:"ingresses,omitempty"`
	Classes     []IngressClass `json:"ingressClasses,omitempty"`
	Params      []ClassParams  `json:"ingressClassParams,omitempty"`
	Bindings    []Binding      `json:"targetGroupBindings,omitempty"`
	TargetRules []TargetRule   `json:"targetGroupConfigurations,omitempty"`
	// Lattice are Gateways of VPC Lattice's controller, as namespace/name.
	Lattice []string `json:"latticeGateways,omitempty"`
	// Gated are namespaces whose new pods get a readiness gate for each target group of type ip.
	Gated []string `json:"gatedNamespaces,omitempty"`
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
	// Gates are TargetGroupBindings that its pods wait for before they are ready.
	Gates []string `json:"gates,omitempty"`
}

// Port is a port of a container.
type Port struct {
	Container string `json:"container"`
	Number    int32  `json:"number"`
}

// The target types of a load balancer: nodes by their NodePorts, or pods by their addresses.
const (
	targetInstance = "instance"
	targetIP       = "ip"
)

// Service is a Service, as load balancers see it.
type Service struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Type as Kubernetes has it; Headless: it has no ClusterIP, and so can never have a NodePort.
	Type     string `json:"type"`
	Headless bool   `json:"headless,omitempty"`
	// NodePorts: each of its ports has one.
	NodePorts bool `json:"nodePorts,omitempty"`
	// Local: only nodes with one of its pods answer (externalTrafficPolicy).
	Local bool `json:"local,omitempty"`
	// Class is its loadBalancerClass, LoadBalancer the older annotation for that, NLBTarget its target type there.
	Class        string `json:"class,omitempty"`
	LoadBalancer string `json:"loadBalancer,omitempty"`
	NLBTarget    string `json:"nlbTarget,omitempty"`
	// ALBTarget is the target type that it asks Ingresses for, Sticky whether it asks for sticky sessions.
	ALBTarget string `json:"albTarget,omitempty"`
	Sticky    bool   `json:"sticky,omitempty"`
}

// Controller is an AWS Load Balancer Controller, by its flags; empty: the default.
type Controller struct {
	Object            string `json:"object"` // namespace/deployment/name
	DefaultTargetType string `json:"defaultTargetType,omitempty"`
	IngressClass      string `json:"ingressClass,omitempty"`
}

// Ingress is an Ingress.
type Ingress struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Class is its ingressClassName, OldClass the annotation that was its forerunner.
	Class    string `json:"class,omitempty"`
	OldClass string `json:"oldClass,omitempty"`
	// TargetType, Group and Sticky are its annotations; Control: its targets tell their capacity (target-control-port).
	TargetType string `json:"targetType,omitempty"`
	Group      string `json:"group,omitempty"`
	Sticky     bool   `json:"sticky,omitempty"`
	Control    bool   `json:"control,omitempty"`
	// Backends are the Services that it sends to. Unread are annotations with actions that could not be read.
	Backends []string `json:"backends,omitempty"`
	Unread   []string `json:"unread,omitempty"`
}

// IngressClass is an IngressClass; Params names its IngressClassParams.
type IngressClass struct {
	Name       string `json:"name"`
	Controller string `json:"controller"`
	Params     string `json:"params,omitempty"`
}

// ClassParams are IngressClassParams. What they say wins over all annotations.
type ClassParams struct {
	Name       string `json:"name"`
	TargetType string `json:"targetType,omitempty"`
	Group      string `json:"group,omitempty"`
}

// Binding is a TargetGroupBinding.
type Binding struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Service   string `json:"service"`
	// TargetType is immutable.
	TargetType string `json:"targetType,omitempty"`
	// TargetGroup is what its target group's ARN ends in, name/id.
	TargetGroup string `json:"targetGroup,omitempty"`
	// Maker is what the controller made it for: ingress, service or gateway; empty: a person did.
	Maker string `json:"maker,omitempty"`
}

// TargetRule is a TargetGroupConfiguration of the Gateway API; Service empty: it is a default for others to refer to.
type TargetRule struct {
	Namespace  string `json:"namespace"`
	Name       string `json:"name"`
	Service    string `json:"service,omitempty"`
	TargetType string `json:"targetType,omitempty"`
}
