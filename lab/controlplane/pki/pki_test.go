// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func writeTestCluster(t *testing.T) Dir {
	t.Helper()
	d := Dir(t.TempDir())
	if err := WriteCluster(d, testCluster()); err != nil {
		t.Fatal(err)
	}
	return d
}

func testCluster() Cluster {
	return Cluster{
		InternalURL: "https://10.0.0.2:6443",
		AdminURL:    "https://127.0.0.1:16443",
		IPs:         []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 2), net.IPv4(10, 96, 0, 1)},
	}
}

func readCert(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parseCert(t, data)
}

func parseCert(t *testing.T, data []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("not PEM: %q", data)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func verify(t *testing.T, caPath string, cert *x509.Certificate, name string, usage x509.ExtKeyUsage) error {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(readCert(t, caPath))
	_, err := cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

func TestTheServingCertificateIsValidUnderEveryNameOfTheServer(t *testing.T) {
	d := writeTestCluster(t)
	cert := readCert(t, d.Cert("apiserver"))
	for _, name := range []string{
		"127.0.0.1", "10.0.0.2", "10.96.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
	} {
		if err := verify(t, d.Cert("ca"), cert, name, x509.ExtKeyUsageServerAuth); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := verify(t, d.Cert("ca"), cert, "10.0.0.3", x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("the certificate is valid for an address that was not asked for")
	}
	if err := verify(t, d.Cert("front-proxy-ca"), cert, "localhost", x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("the front proxy's authority vouches for the API server")
	}
}

func TestEveryPairMatches(t *testing.T) {
	d := writeTestCluster(t)
	for _, name := range []string{"ca", "front-proxy-ca", "apiserver", "apiserver-kubelet-client", "front-proxy-client"} {
		if _, err := tls.LoadX509KeyPair(d.Cert(name), d.Key(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKubeconfigsNameTheUserKubernetesExpects(t *testing.T) {
	d := writeTestCluster(t)
	out := t.TempDir()
	node := Node{Name: "node-1", IPs: []net.IP{net.IPv4(10, 0, 1, 1)}, Server: "https://10.0.0.2:6443"}
	if err := WriteNode(d, node, out); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		path, server, user string
		groups             []string
	}{
		"admin":              {d.Kubeconfig("admin"), "https://127.0.0.1:16443", "lab-admin", []string{"system:masters"}},
		"controller manager": {d.Kubeconfig("controller-manager"), "https://10.0.0.2:6443", "system:kube-controller-manager", nil},
		"scheduler":          {d.Kubeconfig("scheduler"), "https://10.0.0.2:6443", "system:kube-scheduler", nil},
		"kubelet":            {filepath.Join(out, "kubelet.kubeconfig"), "https://10.0.0.2:6443", "system:node:node-1", []string{"system:nodes"}},
		"kube-proxy":         {filepath.Join(out, "kube-proxy.kubeconfig"), "https://10.0.0.2:6443", "system:kube-proxy", nil},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			config, err := clientcmd.BuildConfigFromFlags("", want.path)
			if err != nil {
				t.Fatal(err)
			}
			if config.Host != want.server {
				t.Errorf("server %s, want %s", config.Host, want.server)
			}
			cert := parseCert(t, config.CertData)
			if cert.Subject.CommonName != want.user || !slices.Equal(cert.Subject.Organization, want.groups) {
				t.Errorf("user %q of groups %q, want %q of %q", cert.Subject.CommonName, cert.Subject.Organization, want.user, want.groups)
			}
			if err := verify(t, d.Cert("ca"), cert, "", x509.ExtKeyUsageClientAuth); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheKubeletServesUnderItsNameAndAddress(t *testing.T) {
	d, out := Dir(t.TempDir()), t.TempDir()
	// Before the control plane ever started: the authority must then be the same one.
	if err := WriteNode(d, Node{Name: "node-1", IPs: []net.IP{net.IPv4(10, 0, 1, 1)}, Server: "https://10.0.0.2:6443"}, out); err != nil {
		t.Fatal(err)
	}
	if err := WriteCluster(d, testCluster()); err != nil {
		t.Fatal(err)
	}
	cert := readCert(t, filepath.Join(out, "kubelet.crt"))
	for _, name := range []string{"node-1", "10.0.1.1"} {
		if err := verify(t, d.Cert("ca"), cert, name, x509.ExtKeyUsageServerAuth); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnotherStartKeepsTheAuthoritiesAndRenewsTheRest(t *testing.T) {
	d := writeTestCluster(t)
	kept := []string{d.Cert("ca"), d.Key("ca"), d.Cert("front-proxy-ca"), d.Key("sa"), d.ServiceAccountPublicKey()}
	renewed := []string{d.Cert("apiserver"), d.Kubeconfig("admin")}
	before := readAll(t, append(kept, renewed...))
	if err := WriteCluster(d, testCluster()); err != nil {
		t.Fatal(err)
	}
	after := readAll(t, append(kept, renewed...))
	for _, path := range kept {
		if !bytes.Equal(before[path], after[path]) {
			t.Errorf("%s changed: what was given out before is worthless", path)
		}
	}
	for _, path := range renewed {
		if bytes.Equal(before[path], after[path]) {
			t.Errorf("%s did not change: a new address would be missing from it", path)
		}
	}
}

func readAll(t *testing.T, paths []string) map[string][]byte {
	t.Helper()
	contents := map[string][]byte{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		contents[path] = data
	}
	return contents
}

func TestHalfAnAuthorityIsRefusedNotReplaced(t *testing.T) {
	d := writeTestCluster(t)
	if err := os.Remove(d.Key("ca")); err != nil {
		t.Fatal(err)
	}
	before := readAll(t, []string{d.Cert("ca")})
	err := WriteCluster(d, testCluster())
	if err == nil || !strings.Contains(err.Error(), "restore the missing file") {
		t.Fatalf("got error %v, want one that says what to do", err)
	}
	if after := readAll(t, []string{d.Cert("ca")}); !bytes.Equal(before[d.Cert("ca")], after[d.Cert("ca")]) {
		t.Error("the authority was replaced")
	}
}

func TestConcurrentStartsShareOneAuthority(t *testing.T) {
	d := Dir(t.TempDir())
	outs := make([]string, 8)
	var group sync.WaitGroup
	for i := range outs {
		outs[i] = t.TempDir()
		group.Go(func() {
			if err := WriteNode(d, Node{Name: "n", IPs: []net.IP{net.IPv4(10, 0, 1, 1)}, Server: "https://10.0.0.2:6443"}, outs[i]); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, out := range outs {
		if err := verify(t, d.Cert("ca"), readCert(t, filepath.Join(out, "kubelet.crt")), "n", x509.ExtKeyUsageServerAuth); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyTheOwnerReadsWhatIsWritten(t *testing.T) {
	d := writeTestCluster(t)
	files := 0
	err := filepath.WalkDir(string(d), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == string(d) {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		files++
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Error("nothing was written")
	}
}
