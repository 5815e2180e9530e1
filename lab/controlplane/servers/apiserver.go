// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"github.com/cni-cutover/cni-cutover/lab/controlplane/pki"
)

//go:embed audit.yaml
var auditPolicy []byte

// AuditLog is the file with one JSON audit event (audit.k8s.io/v1, level Metadata) a line.
func AuditLog(d pki.Dir) string { return filepath.Join(string(d), "audit.log") }

func auditPolicyFile(d pki.Dir) string { return filepath.Join(string(d), "audit-policy.yaml") }

func apiServerFlags(o Options, addr netip.AddrPort) []string {
	reconciler := "lease"
	if o.Advertise.IsLoopback() {
		reconciler = "none"
	}
	etcd := etcdURL(o.Dir)
	return []string{
		"--etcd-servers=" + etcd.String(),
		"--bind-address=" + addr.Addr().String(),
		fmt.Sprintf("--secure-port=%d", addr.Port()),
		"--advertise-address=" + o.Advertise.String(),
		"--endpoint-reconciler-type=" + reconciler,
		"--service-cluster-ip-range=" + o.ServiceCIDR.String(),
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--cert-dir=" + o.Dir.Certs(),
		"--tls-cert-file=" + o.Dir.Cert("apiserver"),
		"--tls-private-key-file=" + o.Dir.Key("apiserver"),
		"--client-ca-file=" + o.Dir.Cert("ca"),
		"--kubelet-certificate-authority=" + o.Dir.Cert("ca"),
		"--kubelet-client-certificate=" + o.Dir.Cert("apiserver-kubelet-client"),
		"--kubelet-client-key=" + o.Dir.Key("apiserver-kubelet-client"),
		"--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + o.Dir.Cert("front-proxy-ca"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + o.Dir.Cert("front-proxy-client"),
		"--proxy-client-key-file=" + o.Dir.Key("front-proxy-client"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + o.Dir.ServiceAccountPublicKey(),
		"--service-account-signing-key-file=" + o.Dir.Key("sa"),
		"--audit-policy-file=" + auditPolicyFile(o.Dir),
		"--audit-log-path=" + AuditLog(o.Dir),
		// Megabytes before the log is rotated: a test reads one file.
		"--audit-log-maxsize=4096",
		// Thousands of simulated nodes start at once; the defaults of 400 and 200 make them wait.
		"--max-requests-inflight=3000",
		"--max-mutating-requests-inflight=1500",
		// Watches of kubelets never end by themselves: by default stopping waits a minute for them.
		// The second flag bounds the wait for idle connections to two seconds.
		"--shutdown-watch-termination-grace-period=1s",
		"--shutdown-send-retry-after=true",
	}
}

// newAPIServer parses the flags of an API server that will accept from listener, at addr.
func newAPIServer(o Options, listener net.Listener, addr netip.AddrPort) (*options.ServerRunOptions, error) {
	if err := os.WriteFile(auditPolicyFile(o.Dir), auditPolicy, 0o600); err != nil {
		return nil, fmt.Errorf("writing the audit policy: %w", err)
	}
	s := options.NewServerRunOptions()
	s.SecureServing.Listener = listener
	args := append(apiServerFlags(o, addr), o.APIServerFlags...)
	if err := parseFlags(APIServer, s.Flags(), args); err != nil {
		return nil, err
	}
	return s, nil
}

// runAPIServer serves until ctx ends.
func runAPIServer(ctx context.Context, s *options.ServerRunOptions) error {
	completed, err := s.Complete(ctx)
	if err != nil {
		return fmt.Errorf("completing the API server's options: %w", err)
	}
	if errs := completed.Validate(); len(errs) != 0 {
		return fmt.Errorf("checking the API server's options: %w", utilerrors.NewAggregate(errs))
	}
	if err := app.Run(ctx, completed); err != nil {
		return fmt.Errorf("running the API server: %w", err)
	}
	return nil
}

// parseFlags parses args with the flags of one server.
func parseFlags(server string, named cliflag.NamedFlagSets, args []string) error {
	fs := pflag.NewFlagSet(server, pflag.ContinueOnError)
	fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	for _, set := range named.FlagSets {
		fs.AddFlagSet(set)
	}
	fs.Usage = func() {}
	if err := fs.Parse(args); err != nil {
		return fmt.Errorf("parsing the flags of the %s: %w", server, err)
	}
	if fs.NArg() > 0 {
		return errors.New("parsing the flags of the " + server + ": " + fs.Arg(0) + " is not a flag")
	}
	return nil
}
