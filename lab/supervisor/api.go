// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package supervisor is the first process of the lab's namespaces. It is the VPC's router,
// starts the control plane, the client host and the nodes as machines, and forwards one
// listener of the real machine to the API server. It answers net/rpc calls on a socket in
// the state directory.
package supervisor

import "github.com/cni-cutover/cni-cutover/lab/vpc"

// Order is what the supervisor is told when it starts.
type Order struct {
	// Dir is where the control plane's files and all logs go; default the state directory.
	Dir string
	// Bin is the directory that lab/build fills.
	Bin string
	// MTU of every interface in the VPC, in bytes.
	MTU int
	// APIServer is the URL of the API server for processes outside the lab.
	APIServer string
	// Images are imported into every node.
	Images []string
}

// NodeOptions say how a node differs from the ordinary one.
type NodeOptions struct {
	Zone         string            // default lab-a
	NodeGroup    string            // default workers
	InstanceType string            // default m5.large
	Labels       map[string]string // added to the node's labels when it joins
	MaxPods      int               // default 110
}

// Host is a machine of the lab.
type Host struct {
	Name string
	// PID is the machine's first process, for nsenter -t PID -n -m -u -i -p.
	PID int
	// Instance is what the machine is in the VPC.
	Instance vpc.Instance
	// Node: the machine runs a kubelet.
	Node bool
	// NodeGroup is the one the node joined; empty for others.
	NodeGroup string
	// Logs is a directory with one file per program.
	Logs string
}

// Names of the machines that are no nodes.
const (
	ControlPlane = "control-plane"
	Client       = "client"
)

// Files and directories of the lab; all but Socket are below Order.Dir.
const (
	Socket          = "supervisor.sock" // in the state directory
	ControlPlaneDir = "control-plane"
	Kubeconfig      = ControlPlaneDir + "/admin.kubeconfig"
	AuditLog        = ControlPlaneDir + "/audit.log"
	LogDir          = "logs"
)

// Nothing is the argument or the reply of a call that has none.
type Nothing struct{}

// service is the name of the calls: Lab.AddNodes, Lab.Terminate, Lab.Hosts.
const service = "Lab"
