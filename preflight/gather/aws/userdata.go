// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
	"go.yaml.in/yaml/v3"

	"github.com/cni-cutover/cni-cutover/preflight"
)

// maxUserData bounds what user data is unpacked to, in bytes. EC2 takes 16 KiB of it, packed or not.
const maxUserData = 1 << 20

// readUserData finds what a kubelet will register with in a launch template's user data, which is base64. What is not understood
// to the end is said to be so: a script may do anything.
func readUserData(text string) preflight.UserData {
	if text == "" {
		return preflight.UserData{Trouble: "there is none, so what the kubelet registers with stands in the image"}
	}
	out, err := parseUserData(text)
	if err != nil {
		return preflight.UserData{Trouble: err.Error()}
	}
	return out
}

func parseUserData(text string) (preflight.UserData, error) {
	var none preflight.UserData
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return none, errors.New("it is no base64")
	}
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		zipped, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return none, errors.New("it is packed and cannot be unpacked")
		}
		if data, err = io.ReadAll(io.LimitReader(zipped, maxUserData)); err != nil {
			return none, errors.New("it is packed and cannot be unpacked")
		}
	}
	out := preflight.UserData{Labels: map[string]string{}}
	parts, err := partsOf(bytes.TrimSpace(data))
	if err != nil {
		return none, err
	}
	for _, p := range parts {
		if err := readPart(p, &out); err != nil {
			return none, err
		}
	}
	if out.Format == "" {
		return none, errors.New("it is neither a NodeConfig, nor settings of Bottlerocket, nor a call of bootstrap.sh")
	}
	if len(out.Labels) == 0 {
		out.Labels = nil
	}
	slices.Sort(out.Taints)
	return out, nil
}

// part is a part of user data, by its media type; empty: it has none.
type part struct{ kind, text string }

// partsOf takes MIME apart (nodeadm internal/configprovider/mime.go; cloud-init does the same). What is none is one part.
func partsOf(data []byte) ([]part, error) {
	head := bytes.ToLower(data[:min(len(data), 64)])
	if !bytes.HasPrefix(head, []byte("mime-version:")) && !bytes.HasPrefix(head, []byte("content-type:")) {
		return []part{{text: string(data)}}, nil
	}
	message, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("its MIME header cannot be read")
	}
	kind, parameters, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		return nil, errors.New("it is MIME of another kind than multipart")
	}
	var out []part
	reader := multipart.NewReader(message.Body, parameters["boundary"])
	for {
		p, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, errors.New("its MIME parts cannot be told apart")
		}
		text, err := io.ReadAll(p)
		if err != nil {
			return nil, errors.New("a part of its MIME cannot be read")
		}
		if strings.EqualFold(p.Header.Get("Content-Transfer-Encoding"), "base64") {
			if text, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(text)), "")); err != nil {
				return nil, errors.New("a part of its MIME is no base64")
			}
		}
		kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			return nil, errors.New("a part of its MIME does not say what it is")
		}
		out = append(out, part{kind, string(text)})
	}
}

// formats that user data has.
const (
	nodeadm      = "nodeadm"
	bottlerocket = "bottlerocket"
	bootstrap    = "bootstrap"
)

func readPart(p part, into *preflight.UserData) error {
	text := strings.TrimSpace(p.text)
	switch {
	case p.kind == "application/node.eks.aws", p.kind == "" && strings.Contains(text, "kind: NodeConfig"):
		into.Format = nodeadm
		return readNodeConfig(text, into)
	case strings.Contains(text, "/etc/eks/bootstrap.sh"):
		into.Format = bootstrap
		return readBootstrap(text, into)
	case p.kind == "" && (strings.Contains(text, "[settings") || strings.HasPrefix(text, "settings.")):
		into.Format = bottlerocket
		return readBottlerocket(text, into)
	}
	// A script or cloud-config beside them: as long as it does not speak of the kubelet, it is about something else.
	for _, word := range []string{"kubelet", "register-with-taints", "registerWithTaints", "max-pods", "maxPods", "nodeadm"} {
		if strings.Contains(text, word) {
			return fmt.Errorf("a script in it speaks of %s, and what it does was not followed", word)
		}
	}
	return nil
}

// nodeConfig is what matters of nodeadm's NodeConfig (awslabs/amazon-eks-ami, nodeadm/api/v1alpha1/nodeconfig_types.go).
type nodeConfig struct {
	Kind string `yaml:"kind"`
	Spec struct {
		Kubelet struct {
			Config struct {
				MaxPods            *int `yaml:"maxPods"`
				RegisterWithTaints []struct {
					Key string `yaml:"key"`
				} `yaml:"registerWithTaints"`
			} `yaml:"config"`
			MaxPodsExpression string   `yaml:"maxPodsExpression"`
			Flags             []string `yaml:"flags"`
		} `yaml:"kubelet"`
	} `yaml:"spec"`
}

// readNodeConfig reads one. A later one is merged over an earlier one, where lists of the kubelet's configuration replace each
// other and flags add up; two lists of taints are more than is followed here.
func readNodeConfig(text string, into *preflight.UserData) error {
	var c nodeConfig
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		return errors.New("its NodeConfig is no YAML")
	}
	if c.Kind != "NodeConfig" {
		return errors.New("it holds something else where a NodeConfig was expected")
	}
	k := &c.Spec.Kubelet
	if k.MaxPodsExpression != "" && into.MaxPods == "" {
		into.MaxPods = k.MaxPodsExpression
	}
	if k.Config.MaxPods != nil { // it wins over the expression
		into.MaxPods = strconv.Itoa(*k.Config.MaxPods)
	}
	if len(k.Config.RegisterWithTaints) > 0 && len(into.Taints) > 0 {
		return errors.New("two of its NodeConfigs have taints, and which win was not followed")
	}
	for _, t := range k.Config.RegisterWithTaints {
		into.Taints = append(into.Taints, t.Key)
	}
	return readFlags(k.Flags, into)
}

// readFlags reads the kubelet's flags. The last of several wins, as in the kubelet.
func readFlags(flags []string, into *preflight.UserData) error {
	for i, flag := range flags {
		name, value, given := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		switch name {
		case "register-with-taints", "max-pods", "node-labels":
			if !given && i+1 < len(flags) {
				value = flags[i+1]
			}
		default:
			continue
		}
		value = strings.Trim(value, `"'`)
		if value == "" || strings.ContainsAny(value, "$`") {
			return fmt.Errorf("the value of its flag --%s is made when it runs", name)
		}
		switch name {
		case "max-pods":
			into.MaxPods = value
		case "register-with-taints":
			for taint := range strings.SplitSeq(value, ",") {
				into.Taints = append(into.Taints, taintKey(taint))
			}
		case "node-labels":
			for label := range strings.SplitSeq(value, ",") {
				key, value, _ := strings.Cut(label, "=")
				into.Labels[strings.TrimSpace(key)] = value
			}
		}
	}
	return nil
}

// taintKey is the key in key=value:effect or key:effect.
func taintKey(taint string) string {
	key, _, _ := strings.Cut(taint, ":")
	key, _, _ = strings.Cut(key, "=")
	return strings.TrimSpace(key)
}

// readBottlerocket reads Bottlerocket's settings (its documentation, "settings.kubernetes").
func readBottlerocket(text string, into *preflight.UserData) error {
	var s struct {
		Settings struct {
			Kubernetes struct {
				MaxPods any            `toml:"max-pods"`
				Taints  map[string]any `toml:"node-taints"`
				Labels  map[string]any `toml:"node-labels"`
			} `toml:"kubernetes"`
		} `toml:"settings"`
	}
	if err := toml.Unmarshal([]byte(text), &s); err != nil {
		return errors.New("its settings of Bottlerocket are no TOML")
	}
	k := &s.Settings.Kubernetes
	if k.MaxPods != nil {
		into.MaxPods = fmt.Sprint(k.MaxPods)
	}
	for key := range k.Taints {
		into.Taints = append(into.Taints, key)
	}
	for key, value := range k.Labels {
		into.Labels[key] = fmt.Sprint(value)
	}
	return nil
}

// readBootstrap reads the call of Amazon Linux 2's /etc/eks/bootstrap.sh in a script.
func readBootstrap(text string, into *preflight.UserData) error {
	if strings.Count(text, "/etc/eks/bootstrap.sh") != 1 {
		return errors.New("it names bootstrap.sh more than once")
	}
	before, call, _ := strings.Cut(text, "/etc/eks/bootstrap.sh")
	for _, word := range []string{"kubelet", "register-with-taints", "max-pods"} {
		if strings.Contains(before, word) {
			return fmt.Errorf("its script speaks of %s before it calls bootstrap.sh, and what it does was not followed", word)
		}
	}
	args, rest, err := words(call)
	if err != nil {
		return err
	}
	if strings.Contains(rest, "kubelet") {
		return errors.New("its script goes on about the kubelet after it calls bootstrap.sh, and what it does was not followed")
	}
	for i, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		if name != "--kubelet-extra-args" {
			continue
		}
		if !given {
			if i+1 == len(args) {
				return errors.New("--kubelet-extra-args of its bootstrap.sh has no value")
			}
			value = args[i+1]
		}
		if strings.ContainsAny(value, "$`") {
			return errors.New("the value of --kubelet-extra-args of its bootstrap.sh is made when it runs")
		}
		flags, _, err := words(value)
		if err != nil {
			return err
		}
		if err := readFlags(flags, into); err != nil {
			return err
		}
	}
	return nil
}

// words takes a shell's first command apart, up to a line's or the command's end, and gives what comes after it. Quotes are
// taken off and nothing is expanded: a $ stays one.
func words(text string) (out []string, rest string, err error) {
	var word strings.Builder
	started, quote := false, byte(0)
	end := func() {
		if started {
			out = append(out, word.String())
			word.Reset()
			started = false
		}
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(text):
			i++
			if text[i] != '\n' {
				started = true
				word.WriteByte(text[i])
			}
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case strings.IndexByte(`'"`, c) >= 0:
			quote, started = c, true
		case strings.IndexByte("\n;&|", c) >= 0:
			end()
			return out, text[i+1:], nil
		case strings.IndexByte(" \t\r", c) >= 0:
			end()
		default:
			started = true
			word.WriteByte(c)
		}
	}
	if quote != 0 {
		return nil, "", errors.New("a quote in its call of bootstrap.sh does not end")
	}
	end()
	return out, "", nil
}
