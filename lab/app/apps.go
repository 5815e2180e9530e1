// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package app is the workload of the lab: three applications in the shape of
// the reference migration, and the small HTTP server that plays all three.
// Every answer says which pod on which node, with which address, gave it, so a
// client can tell from outside which network is carrying the traffic.
package app

import _ "embed"

// Image is the name under which the lab imports the server's image. Its
// entrypoint has to be the program of cmd/app: [Manifest] gives arguments only.
const Image = "lab/app:dev"

// Manifest is a multi-document YAML stream with everything of [Apps]: for each
// a Namespace, a Deployment, a NodePort Service and a PodDisruptionBudget.
//
//go:embed apps.yaml
var Manifest []byte

// App is one application as [Manifest] declares it.
type App struct {
	// Flavour is the --flavour of its pods and the app's short name.
	Flavour string
	// Namespace holds all its objects; each of them is called Flavour.
	Namespace string
	// NodePort is the TCP port of its Service on every node.
	NodePort int
	// Replicas is the Deployment's size; its budget keeps Replicas-1 available.
	Replicas int
}

// Apps lists the applications of [Manifest], in its order.
func Apps() []App {
	return []App{
		{Flavour: "nginx", Namespace: "demo-nginx", NodePort: 30080, Replicas: 4},
		{Flavour: "httpd", Namespace: "demo-httpd", NodePort: 30081, Replicas: 3},
		{Flavour: "echo", Namespace: "demo-echo", NodePort: 30082, Replicas: 3},
	}
}
