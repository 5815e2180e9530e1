// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"

	"github.com/cni-cutover/cni-cutover/internal/isolated"
)

// inNetwork runs f in a network namespace of its own, with what it starts.
func inNetwork(t *testing.T, f func()) {
	t.Helper()
	ns, _ := isolated.NewNetwork(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := netns.Set(ns); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// feed gives a program its standard input.
func feed(t *testing.T, program, input string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v\n%s", program, args, err, out)
	}
}

// What the VPC CNI makes (seen with amazon-vpc-cni-k8s 1.23.2; the chain for marks is of releases before), and what is not its own.
const (
	awsTable = "table ip aws-cni { chain nat-prerouting { type nat hook prerouting priority -90; } ; chain snat-mark { } ; }"
	awsNAT   = "*nat\n:AWS-SNAT-CHAIN-0 - [0:0]\n-A POSTROUTING -m comment --comment \"AWS SNAT CHAIN\" -j AWS-SNAT-CHAIN-0\n" +
		"-A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment \"AWS SNAT CHAIN\" -j RETURN\nCOMMIT\n"
	awsMarks  = "*nat\n:AWS-CONNMARK-CHAIN-0 - [0:0]\nCOMMIT\n"
	awsMangle = "*mangle\n-A PREROUTING -i eni+ -m comment --comment \"AWS, primary ENI\" -j CONNMARK --restore-mark --mask 0x80\nCOMMIT\n"
	strangers = "*nat\n:AWS - [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -m comment --comment \"AWS, secondary\" -j KUBE-SERVICES\nCOMMIT\n" +
		"*mangle\n:CILIUM_PRE_mangle - [0:0]\n-A PREROUTING -m comment --comment \"cilium-feeder\" -j CILIUM_PRE_mangle\nCOMMIT\n"
)

func TestNetfilterIsLookedAtInBothOfItsPlaces(t *testing.T) {
	needsRoot(t)
	const comment = `rules "AWS, primary ENI" in ip mangle`
	for name, c := range map[string]struct {
		make func()
		want []string
	}{
		"nothing":                {func() {}, nil},
		"the table of 1.23":      {func() { feed(t, "nft", awsTable, "-f", "-") }, []string{"the nftables table ip aws-cni"}},
		"a table of its own, v6": {func() { feed(t, "nft", strings.Replace(awsTable, "ip", "ip6", 1), "-f", "-") }, []string{"the nftables table ip6 aws-cni"}},
		"chains and rules in nftables": {func() {
			for _, all := range []string{strangers, awsNAT, awsMarks, awsMangle} {
				feed(t, "iptables-nft-restore", all, "--noflush")
			}
		}, []string{"the chain AWS-SNAT-CHAIN-0 of ip nat", "the chain AWS-CONNMARK-CHAIN-0 of ip nat", comment}},
		"chains and rules in x_tables": {func() {
			for _, all := range []string{strangers, awsNAT, awsMarks, awsMangle} {
				feed(t, "iptables-legacy-restore", all, "--noflush")
			}
		}, []string{"the chain AWS-CONNMARK-CHAIN-0 of ip nat (iptables-legacy)", "the chain AWS-SNAT-CHAIN-0 of ip nat (iptables-legacy)", comment + " (iptables-legacy)"}},
		"the same for IPv6": {func() {
			feed(t, "ip6tables-legacy-restore", strings.ReplaceAll(awsNAT, "10.0.0.0/16", "fd00::/64"), "--noflush")
			feed(t, "ip6tables-nft-restore", awsMangle, "--noflush")
		}, []string{`rules "AWS, primary ENI" in ip6 mangle`, "the chain AWS-SNAT-CHAIN-0 of ip6 nat (iptables-legacy)"}},
		"what is others'": {func() {
			feed(t, "nft", "table ip aws { chain snat-mark { } ; }", "-f", "-")
			feed(t, "iptables-nft-restore", strangers, "--noflush")
			feed(t, "iptables-legacy-restore", strangers, "--noflush")
		}, nil},
		"among many rules": {func() {
			feed(t, "iptables-legacy-restore", manyRules(20000), "--noflush")
			feed(t, "iptables-nft-restore", manyRules(2000), "--noflush")
			feed(t, "iptables-legacy-restore", awsNAT, "--noflush")
		}, []string{"the chain AWS-SNAT-CHAIN-0 of ip nat (iptables-legacy)"}},
	} {
		t.Run(name, func(t *testing.T) {
			inNetwork(t, func() {
				c.make()
				got := lookNetfilter()
				if got.Sight != Seen || got.NotAllowed {
					t.Errorf("%+v", got)
				}
				if diff := cmp.Diff(c.want, got.Found); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// manyRules are such as kube-proxy writes, each with a chain of its own.
func manyRules(n int) string {
	var chains, rules strings.Builder
	for i := range n {
		fmt.Fprintf(&chains, ":KUBE-SVC-%016d - [0:0]\n", i)
		fmt.Fprintf(&rules, "-A KUBE-SVC-%016d -s 10.0.%d.%d/32 -m comment --comment \"default/service\" -j ACCEPT\n", i, i/250%250, i%250)
	}
	return "*nat\n" + chains.String() + rules.String() + "COMMIT\n"
}

// TestLookingMakesNoTables: the kernel makes a table of iptables-legacy when somebody asks for it, which a look must not do.
func TestLookingMakesNoTables(t *testing.T) {
	needsRoot(t)
	inNetwork(t, func() {
		if n := lookNetfilter(); n.Sight != Seen {
			t.Errorf("%+v", n)
		}
		for _, f := range xFamilies() {
			if b, err := os.ReadFile(f.names); err != nil || len(b) > 0 {
				t.Errorf("%s: %q, %v", f.names, b, err)
			}
		}
		out, err := exec.Command("nft", "list", "tables").CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("nftables: %q, %v", out, err)
		}
	})
}

func TestNetfilterTakesACapabilityAndSaysSo(t *testing.T) {
	needsRoot(t)
	var got Netfilter
	withoutCapabilities(t, func() { got = lookNetfilter() })
	if got.Sight != Failed || !got.NotAllowed || !strings.Contains(got.Detail, "CAP_NET_ADMIN") {
		t.Errorf("%+v", got)
	}
}

// FuzzXTables: whatever an entry says of where the next one is.
func FuzzXTables(f *testing.F) {
	if isolated.Tests() {
		feed := exec.Command("iptables-legacy-restore")
		feed.Stdin = strings.NewReader(awsNAT)
		if out, err := feed.CombinedOutput(); err != nil {
			f.Fatalf("%v\n%s", err, out)
		}
		whole, err := xFamilies()[0].read("nat")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(whole)
		f.Add(whole[:len(whole)-1])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, entries []byte) {
		for _, x := range xFamilies() {
			_, _ = x.find(entries, "nat") // and it ends
		}
	})
}

// BenchmarkLookNetfilter is a node with so many rules of kube-proxy's, each with a chain of its own, in either place.
func BenchmarkLookNetfilter(b *testing.B) {
	needsRoot(b)
	for _, program := range []string{"iptables-nft-restore", "iptables-legacy-restore"} {
		b.Run(program, func(b *testing.B) {
			cmd := exec.Command(program)
			cmd.Stdin = strings.NewReader(manyRules(20000))
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			for b.Loop() {
				if n := lookNetfilter(); n.Sight != Seen {
					b.Fatal(n.Look)
				}
			}
			cmd = exec.Command(program)
			cmd.Stdin = strings.NewReader("*nat\nCOMMIT\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
		})
	}
}
