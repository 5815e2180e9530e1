// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/cni-cutover/cni-cutover/vpccni"
)

// addOns: who owns what the move changes and removes. What EKS owns is changed and removed through EKS, or it comes back.
func addOns(s *Snapshot) []Finding {
	out := s.AWS.unasked("who owns the VPC CNI and kube-proxy was", "eks:DescribeAddon")
	var owned []string
	for i := range s.AWS.AddOns {
		a := &s.AWS.AddOns[i]
		if !a.Managed {
			owned = append(owned, a.Name+" is the cluster's own")
			continue
		}
		owned = append(owned, fmt.Sprintf("%s is EKS' add-on (%s)", a.Name, a.Version))
		if a.Status != "ACTIVE" {
			f := warn("EKS' add-on %s is %s, so EKS may change it or refuse to", a.Name, a.Status)
			f.Objects, f.Evidence = []string{"AddOn/" + a.Name}, a.Issues
			f.Mend = fmt.Sprintf("aws eks describe-addon --cluster-name %s --addon-name %s --query addon.health, and wait until it is ACTIVE", s.cluster(), a.Name)
			out = append(out, f)
		}
	}
	out = append(out, s.driftedAddOn()...)
	if len(out) > 0 {
		return out
	}
	return []Finding{pass("%s: phases RemoveLegacy and FullEBPF remove an add-on through EKS, and else the DaemonSet", strings.Join(owned, ", "))}
}

// driftedAddOn: lists of aws-node that hold the overlay in the DaemonSet alone are lost with the add-on's next update.
func (s *Snapshot) driftedAddOn() []Finding {
	a := s.addOn(addOnLegacy)
	if a == nil || !a.Managed || !s.Network.Legacy.Found {
		return nil
	}
	all, err := configuration(a.Configuration)
	var env map[string]any
	if err == nil {
		env, err = envOf(all)
	}
	if err != nil {
		f := unknown("the configuration of EKS' add-on %s was not understood: %v", a.Name, err)
		f.Objects = []string{"AddOn/" + a.Name}
		return []Finding{f}
	}
	var lost []setting
	for _, l := range s.lists() {
		have := vpccni.Networks(text(env[l.name]))
		if holds(l.now, networks(s.Overlay)) && !holds(have, networks(s.Overlay)) {
			lost = append(lost, setting{l.name, appended(slices.Concat(have, l.now), nil)})
		}
	}
	if len(lost) == 0 {
		return nil
	}
	f := warn("the DaemonSet has the overlay in %s, and the add-on's configuration has not: an update of the add-on that overwrites takes it away", names(lost))
	f.Objects, f.Mend = []string{"AddOn/" + a.Name}, s.set(lost...)
	return []Finding{f}
}

// list is a list of networks that aws-node has.
type list struct {
	name string
	now  []netip.Prefix
}

// lists are those that have to hold the overlay.
func (s *Snapshot) lists() []list {
	l := &s.Network.Legacy
	out := []list{{vpccni.EnvExternalServiceCIDRs, l.ExternalServiceCIDRs}}
	if !l.ExternalSNAT {
		out = append(out, list{vpccni.EnvExcludeSNATCIDRs, l.ExcludeSNATCIDRs})
	}
	return out
}

// holds says whether each of some networks lies in one of a list.
func holds(list, all []netip.Prefix) bool {
	return !slices.ContainsFunc(all, func(o netip.Prefix) bool { return !within(o, list) })
}

// within says whether a network lies in one of a list.
func within(o netip.Prefix, list []netip.Prefix) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Bits() <= o.Bits() && p.Contains(o.Addr()) })
}

// setting is a variable of aws-node and the value that it should have.
type setting struct{ name, value string }

func names(settings []setting) string {
	var out []string
	for _, v := range settings {
		out = append(out, v.name)
	}
	return strings.Join(out, " and ")
}

// managed says whether EKS owns the VPC CNI: by its own word, and else by who owns the DaemonSet's fields.
func (s *Snapshot) managed() bool {
	if a := s.addOn(addOnLegacy); a != nil {
		return a.Managed
	}
	return s.Network.Legacy.Managed
}

// set is the command that gives aws-node variables, through the add-on where EKS owns it: what is changed in place there is put
// back at its next update.
func (s *Snapshot) set(settings ...setting) string {
	if s.managed() {
		return s.updateAddOn(nil, settings)
	}
	l := &s.Network.Legacy
	command := fmt.Sprintf("kubectl -n %s set env daemonset/%s -c aws-node", l.Namespace, l.Name)
	for _, v := range settings {
		command += " " + v.name + "=" + v.value
	}
	return command
}

// updateAddOn changes the configuration of the VPC CNI's add-on: fields of its own, and variables of aws-node. What an add-on is
// given replaces what it was given before, so that is repeated: as EKS said, or if it was not asked as it will say when the
// command runs; if that is no JSON nothing is changed.
func (s *Snapshot) updateAddOn(own, env []setting) string {
	of := "--cluster-name " + s.cluster() + " --addon-name " + addOnLegacy
	update := "aws eks update-addon " + of + " --resolve-conflicts PRESERVE --configuration-values "
	if a := s.addOn(addOnLegacy); a != nil {
		if whole, err := configured(a.Configuration, own, env); err == nil {
			return update + quoted(whole)
		}
	}
	var filter string
	for _, v := range own {
		filter += fmt.Sprintf(".%s = %q | ", v.name, v.value)
	}
	var fields []string
	for _, v := range env {
		fields = append(fields, fmt.Sprintf("%q:%q", v.name, v.value))
	}
	filter += ".env += {" + strings.Join(fields, ",") + "}"
	return "values=$(aws eks describe-addon " + of + " --query addon.configurationValues --output text | sed 's/^None$/{}/' | jq -ce '" + filter + "') && " + update + `"$values"`
}

// quoted is a text as one word for a shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// configuration reads what an add-on was given, JSON or YAML.
func configuration(given string) (map[string]any, error) {
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(given), &out, func(d *json.Decoder) *json.Decoder { d.UseNumber(); return d }); err != nil {
		return nil, fmt.Errorf("reading it as JSON or YAML: %w", err)
	}
	if out == nil { // null
		out = map[string]any{}
	}
	return out, nil
}

// envOf are the variables that an add-on's configuration gives to aws-node.
func envOf(all map[string]any) (map[string]any, error) {
	switch env := all["env"].(type) {
	case nil:
		return map[string]any{}, nil
	case map[string]any:
		return env, nil
	}
	return nil, errors.New("reading its env: it is no object")
}

// configured is an add-on's configuration with fields of its own and variables of aws-node changed, as JSON. Lists that it has
// keep what they hold.
func configured(given string, own, env []setting) (string, error) {
	all, err := configuration(given)
	if err != nil {
		return "", err
	}
	had, err := envOf(all)
	if err != nil {
		return "", err
	}
	for _, v := range own {
		all[v.name] = v.value
	}
	for _, v := range env {
		if have := vpccni.Networks(text(had[v.name])); len(have) > 0 {
			v.value = appended(have, vpccni.Networks(v.value))
		}
		had[v.name] = v.value
	}
	all["env"] = had
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(all); err != nil {
		return "", fmt.Errorf("writing the configuration: %w", err)
	}
	return strings.TrimSpace(out.String()), nil
}

// text is a value of a configuration, empty if it is none.
func text(v any) string {
	s, _ := v.(string)
	return s
}
