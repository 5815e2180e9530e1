// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cni-cutover/cni-cutover/preflight"
)

func packed(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// inMIME are parts of user data, by their media types.
func inMIME(parts ...part) string {
	out := "Content-Type: multipart/mixed; boundary=\"BOUNDARY\"\r\nMIME-Version: 1.0\r\n\r\n"
	for _, p := range parts {
		out += "--BOUNDARY\r\nContent-Type: " + p.kind + "\r\n\r\n" + p.text + "\r\n"
	}
	return out + "--BOUNDARY--\r\n"
}

const startup = "node.cilium.io/agent-not-ready"

// TestUserDataIsRead in the forms that EKS' images take, and what was not followed to its end is not guessed. Shapes are those of
// amazon-eks-ami's and Bottlerocket's documentation, of EKS' own launch templates and of terraform-aws-eks.
func TestUserDataIsRead(t *testing.T) {
	config := func(kubelet string) string {
		return "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  kubelet:\n" + kubelet
	}
	const nodeType, script = "application/node.eks.aws", "text/x-shellscript; charset=\"us-ascii\""
	const al2 = "#!/bin/bash\nset -ex\nB64_CLUSTER_CA=c2VjcmV0\nAPI_SERVER_URL=https://ABCD.gr7.eu-central-1.eks.amazonaws.com\n" +
		"/etc/eks/bootstrap.sh shop --b64-cluster-ca $B64_CLUSTER_CA --apiserver-endpoint $API_SERVER_URL \\\n  --kubelet-extra-args '--node-labels=a=b,c=d --max-pods=110 --register-with-taints=\"node.cilium.io/agent-not-ready=true:NoExecute,x=y:NoSchedule\"' --use-max-pods false\n"
	for name, c := range map[string]struct {
		text string
		want preflight.UserData
	}{
		"EKS' own, for Amazon Linux 2023": {mimeOfNodes, preflight.UserData{Format: nodeadm, MaxPods: "29", Taints: []string{startup}, Labels: map[string]string{"eks.amazonaws.com/nodegroup": "blue", "team": "shop"}}},
		"a bare NodeConfig":               {config("    maxPodsExpression: \"110\"\n"), preflight.UserData{Format: nodeadm, MaxPods: "110"}},
		"packed":                          {packed(t, config("    maxPodsExpression: \"110\"\n")), preflight.UserData{Format: nodeadm, MaxPods: "110"}},
		"taints in the configuration": {inMIME(part{nodeType, config("    config:\n      maxPods: 58\n      registerWithTaints:\n        - {key: " + startup + ", value: \"true\", effect: NoExecute}\n")}),
			preflight.UserData{Format: nodeadm, MaxPods: "58", Taints: []string{startup}}},
		"maxPods wins over the expression": {config("    maxPodsExpression: max_pods * 2\n    config: {maxPods: 58}\n"), preflight.UserData{Format: nodeadm, MaxPods: "58"}},
		"a person's before EKS'":           {inMIME(part{nodeType, config("    maxPodsExpression: \"110\"\n")}, part{nodeType, config("    config: {maxPods: 29}\n    flags: [--v=2]\n")}), preflight.UserData{Format: nodeadm, MaxPods: "29"}},
		"flags in two words":               {config("    flags: [--register-with-taints, 'a=b:NoSchedule,c:NoExecute', --max-pods, '50']\n"), preflight.UserData{Format: nodeadm, MaxPods: "50", Taints: []string{"a", "c"}}},
		"neither taints nor maxPods":       {config("    config: {clusterDNS: [172.20.0.10]}\n"), preflight.UserData{Format: nodeadm}},
		"a script about something else":    {inMIME(part{script, "#!/bin/sh\nyum install -y agent\n"}, part{nodeType, config("    config: {maxPods: 29}\n")}), preflight.UserData{Format: nodeadm, MaxPods: "29"}},

		"a script that changes the kubelet": {inMIME(part{nodeType, config("    config: {maxPods: 29}\n")}, part{script, "#!/bin/sh\nsed -i s/29/110/ /etc/kubernetes/kubelet/config.json\n"}), preflight.UserData{Trouble: "kubelet"}},
		"two lists of taints":               {inMIME(part{nodeType, config("    config: {registerWithTaints: [{key: a}]}\n")}, part{nodeType, config("    config: {registerWithTaints: [{key: b}]}\n")}), preflight.UserData{Trouble: "which win was not followed"}},
		"a NodeConfig that is none":         {inMIME(part{nodeType, "kind: [\n"}), preflight.UserData{Trouble: "no YAML"}},
		"something else in its place":       {inMIME(part{nodeType, "kind: Pod\n"}), preflight.UserData{Trouble: "something else"}},
		"a taint that is made when it runs": {config("    flags: ['--register-with-taints=$TAINTS']\n"), preflight.UserData{Trouble: "made when it runs"}},

		"Amazon Linux 2":                       {al2, preflight.UserData{Format: bootstrap, MaxPods: "110", Taints: []string{startup, "x"}, Labels: map[string]string{"a": "b", "c": "d"}}},
		"Amazon Linux 2 in MIME":               {inMIME(part{script, al2}), preflight.UserData{Format: bootstrap, MaxPods: "110", Taints: []string{startup, "x"}, Labels: map[string]string{"a": "b", "c": "d"}}},
		"without arguments for the kubelet":    {"#!/bin/sh\n/etc/eks/bootstrap.sh shop\n", preflight.UserData{Format: bootstrap}},
		"arguments as one word":                {"#!/bin/sh\n/etc/eks/bootstrap.sh shop --kubelet-extra-args=--max-pods=110; echo done\n", preflight.UserData{Format: bootstrap, MaxPods: "110"}},
		"arguments that are made when it runs": {"#!/bin/sh\n/etc/eks/bootstrap.sh shop --kubelet-extra-args \"--register-with-taints=$TAINTS\"\n", preflight.UserData{Trouble: "made when it runs"}},
		"a script that goes on":                {"#!/bin/sh\n/etc/eks/bootstrap.sh shop\nsystemctl restart kubelet\n", preflight.UserData{Trouble: "goes on about the kubelet"}},
		"a script that begins earlier":         {"#!/bin/sh\nsed -i '/^set/a --max-pods' /etc/eks/x\n/etc/eks/bootstrap.sh shop\n", preflight.UserData{Trouble: "before it calls"}},
		"two calls":                            {"/etc/eks/bootstrap.sh a || /etc/eks/bootstrap.sh b", preflight.UserData{Trouble: "more than once"}},
		"a quote that does not end":            {"/etc/eks/bootstrap.sh a --kubelet-extra-args '--max-pods", preflight.UserData{Trouble: "does not end"}},
		"arguments that are not there":         {"/etc/eks/bootstrap.sh a --kubelet-extra-args", preflight.UserData{Trouble: "has no value"}},

		"Bottlerocket": {"[settings.kubernetes]\napi-server = \"https://x\"\nmax-pods = 110\n[settings.kubernetes.node-taints]\n\"" + startup + "\" = [\"true:NoExecute\"]\n\"b\" = \"c:NoSchedule\"\n[settings.kubernetes.node-labels]\n\"team\" = \"shop\"\n",
			preflight.UserData{Format: bottlerocket, MaxPods: "110", Taints: []string{"b", startup}, Labels: map[string]string{"team": "shop"}}},
		"Bottlerocket with dotted keys":  {"settings.kubernetes.max-pods = 110\nsettings.kubernetes.node-taints.b = \"c:NoSchedule\"\n", preflight.UserData{Format: bottlerocket, MaxPods: "110", Taints: []string{"b"}}},
		"Bottlerocket that says nothing": {"[settings.host-containers.admin]\nenabled = true\n", preflight.UserData{Format: bottlerocket}},
		"TOML that is none":              {"[settings.kubernetes\n", preflight.UserData{Trouble: "no TOML"}},

		"a script alone":             {"#!/bin/sh\nreboot\n", preflight.UserData{Trouble: "neither a NodeConfig"}},
		"cloud-config alone":         {"#cloud-config\npackages: [jq]\n", preflight.UserData{Trouble: "neither a NodeConfig"}},
		"MIME that is cut":           {inMIME(part{nodeType, "a"})[:70], preflight.UserData{Trouble: "neither a NodeConfig"}},
		"MIME of one part":           {"Content-Type: text/plain\n\nkind: NodeConfig\n", preflight.UserData{Trouble: "another kind than multipart"}},
		"a part that is unnamed":     {"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\nx\n--B--\n", preflight.UserData{Trouble: "does not say what it is"}},
		"a packed thing that is cut": {packed(t, "kind: NodeConfig")[:12], preflight.UserData{Trouble: "cannot be unpacked"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := readUserData(base64.StdEncoding.EncodeToString([]byte(c.text)))
			if c.want.Trouble != "" && strings.Contains(got.Trouble, c.want.Trouble) {
				c.want.Trouble = got.Trouble
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, text := range []string{"", "%"} {
		if got := readUserData(text); got.Trouble == "" || got.Format != "" {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// FuzzUserData: whatever it is, it is either understood, with keys of taints that are keys, or said not to be, without repeating it.
func FuzzUserData(f *testing.F) {
	for _, seed := range []string{mimeOfNodes, "/etc/eks/bootstrap.sh a --kubelet-extra-args '--max-pods=1 --register-with-taints=a=b:c'", "[settings.kubernetes]\nmax-pods=1\n", "kind: NodeConfig\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := readUserData(base64.StdEncoding.EncodeToString(data))
		if (got.Format == "") != (got.Trouble != "") {
			t.Errorf("%+v", got)
		}
		if got.Trouble != "" && (got.MaxPods != "" || len(got.Taints)+len(got.Labels) > 0) {
			t.Errorf("not understood, and yet %+v", got)
		}
	})
}
