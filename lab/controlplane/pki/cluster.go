// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

// Package pki makes the certificates, keys and kubeconfigs of a laboratory cluster.
//
// Authorities and the service account keys are created once per directory and kept; everything they sign
// is issued anew at every start, so that a changed address is never missing from a certificate.
// All files are readable by their owner only.
package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
)

// Dir is the directory of one control plane; its methods name the files in it.
type Dir string

// Certs is where certificates and keys are.
func (d Dir) Certs() string { return filepath.Join(string(d), "pki") }

// Cert is the path of the certificate called name ("ca", "front-proxy-ca", "apiserver",
// "apiserver-kubelet-client", "front-proxy-client").
func (d Dir) Cert(name string) string { return filepath.Join(d.Certs(), name+".crt") }

// Key is the path of the private key called name; "sa" signs service account tokens.
func (d Dir) Key(name string) string { return filepath.Join(d.Certs(), name+".key") }

// ServiceAccountPublicKey verifies service account tokens.
func (d Dir) ServiceAccountPublicKey() string { return filepath.Join(d.Certs(), "sa.pub") }

// Kubeconfig is the path of the kubeconfig called name ("admin", "controller-manager", "scheduler").
func (d Dir) Kubeconfig(name string) string { return filepath.Join(string(d), name+".kubeconfig") }

// Cluster says where the API server is reached.
type Cluster struct {
	// InternalURL is how the controller manager and the scheduler, on the same host, reach it.
	InternalURL string
	// AdminURL is the server of the admin kubeconfig; it may be a forwarded listener elsewhere.
	AdminURL string
	// IPs are all addresses a client may dial.
	IPs []net.IP
}

// serverNames are the DNS names under which pods reach the kubernetes Service, and localhost.
// https://kubernetes.io/docs/setup/best-practices/certificates/
var serverNames = []string{
	"localhost",
	"kubernetes",
	"kubernetes.default",
	"kubernetes.default.svc",
	"kubernetes.default.svc.cluster.local",
}

// WriteCluster writes all files a control plane needs into d.
func WriteCluster(d Dir, c Cluster) error {
	return withLock(d.Certs(), func() error {
		ca, err := loadOrCreateAuthority(d.Certs(), "ca")
		if err != nil {
			return err
		}
		frontProxy, err := loadOrCreateAuthority(d.Certs(), "front-proxy-ca")
		if err != nil {
			return err
		}
		return errors.Join(
			ensureServiceAccountKeys(d.Certs()),
			writeServingPairs(d, ca, frontProxy, c),
			writeClusterKubeconfigs(d, ca, c),
		)
	})
}

func writeServingPairs(d Dir, ca, frontProxy *Authority, c Cluster) error {
	pairs := []struct {
		name   string
		signer *Authority
		id     Identity
	}{
		{"apiserver", ca, Identity{
			CommonName: "kube-apiserver",
			DNSNames:   serverNames,
			IPs:        c.IPs,
			Usages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}},
		// For logs and exec: kubelets ask the API server whether this user may, and system:masters may.
		{"apiserver-kubelet-client", ca, clientIdentity("kube-apiserver-kubelet-client", "system:masters")},
		{"front-proxy-client", frontProxy, clientIdentity("front-proxy-client")},
	}
	for _, p := range pairs {
		pair, err := p.signer.Issue(p.id)
		if err != nil {
			return err
		}
		if err := writePair(d.Certs(), p.name, pair); err != nil {
			return err
		}
	}
	return nil
}

func writeClusterKubeconfigs(d Dir, ca *Authority, c Cluster) error {
	users := []struct {
		name, server string
		id           Identity
	}{
		{"admin", c.AdminURL, clientIdentity("lab-admin", "system:masters")},
		{"controller-manager", c.InternalURL, clientIdentity("system:kube-controller-manager")},
		{"scheduler", c.InternalURL, clientIdentity("system:kube-scheduler")},
	}
	for _, u := range users {
		if err := issueKubeconfig(d.Kubeconfig(u.name), u.server, ca, u.id); err != nil {
			return err
		}
	}
	return nil
}

// Node is one node whose credentials are wanted.
type Node struct {
	// Name is the node's name; its kubelet is the user system:node:<Name>.
	Name string
	// IPs are the node's addresses; the API server dials the kubelet at the first.
	IPs []net.IP
	// Server is the URL under which the node reaches the API server.
	Server string
}

// WriteNode writes ca.crt, kubelet.crt, kubelet.key, kubelet.kubeconfig and kube-proxy.kubeconfig into out,
// signed by the authority of d.
func WriteNode(d Dir, n Node, out string) error {
	return withLock(d.Certs(), func() error {
		ca, err := loadOrCreateAuthority(d.Certs(), "ca")
		if err != nil {
			return err
		}
		serving, err := ca.Issue(Identity{
			CommonName: "system:node:" + n.Name, Organizations: []string{"system:nodes"},
			DNSNames: []string{n.Name}, IPs: slices.Clone(n.IPs),
			Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return err
		}
		return errors.Join(
			writeFile(filepath.Join(out, "ca.crt"), ca.CertPEM()),
			writePair(out, "kubelet", serving),
			issueKubeconfig(filepath.Join(out, "kubelet.kubeconfig"), n.Server, ca, clientIdentity("system:node:"+n.Name, "system:nodes")),
			// The user the built-in ClusterRole system:node-proxier is bound to.
			issueKubeconfig(filepath.Join(out, "kube-proxy.kubeconfig"), n.Server, ca, clientIdentity("system:kube-proxy")),
		)
	})
}

func clientIdentity(user string, groups ...string) Identity {
	return Identity{CommonName: user, Organizations: groups, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func issueKubeconfig(path, server string, ca *Authority, id Identity) error {
	pair, err := ca.Issue(id)
	if err != nil {
		return fmt.Errorf("issuing %s: %w", path, err)
	}
	return writeKubeconfig(path, server, ca.CertPEM(), id.CommonName, pair)
}
