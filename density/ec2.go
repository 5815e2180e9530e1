// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package density

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// EC2 is what EC2 said of instance types. Its zero value was not asked: the table's word stands.
type EC2 struct {
	// Region that was asked; empty: EC2 was not.
	Region string `json:"region,omitempty"`
	// Types are those of which it knows the limits, by name, among those that it was asked about.
	Types map[string]InstanceType `json:"instanceTypes,omitempty"`
	// Refused is the action that IAM does not allow, if there is one.
	Refused string `json:"refused,omitempty"`
}

// InstanceType is an instance type in EC2's words.
type InstanceType struct {
	Limits
	// VCPUs that its instances have unless they are told otherwise.
	VCPUs int `json:"vCPUs"`
	// Prefixes says whether its interfaces can have prefixes: it is of the Nitro system or bare metal. On all others the VPC
	// CNI goes on with single addresses (amazon-vpc-cni-k8s, pkg/ipamd/ipamd.go, isConfigValid).
	Prefixes bool `json:"prefixes"`
}

// Difference is an instance type for which EC2 and the table have different limits.
type Difference struct {
	Type  string `json:"instanceType"`
	EC2   Limits `json:"ec2"`
	Table Limits `json:"table"`
}

// limitsOf returns EC2's limits of an instance type, or else the table's.
func (e *EC2) limitsOf(instanceType string) (Limits, bool) {
	if t, known := e.Types[instanceType]; known {
		return t.Limits, true
	}
	return LimitsOf(instanceType)
}

// settings are those of the VPC CNI as they hold on an instance type.
func (e *EC2) settings(instanceType string, c VPCCNI) VPCCNI {
	if e.single(instanceType) {
		c.PrefixDelegation = false
	}
	return c
}

// single says whether EC2 knows that interfaces of an instance type have single addresses only.
func (e *EC2) single(instanceType string) bool {
	t, known := e.Types[instanceType]
	return known && !t.Prefixes
}

// differences are where EC2 and the table disagree, by name.
func (e *EC2) differences() []Difference {
	var out []Difference
	for _, name := range slices.Sorted(maps.Keys(e.Types)) {
		if table, known := LimitsOf(name); known && table != e.Types[name].Limits {
			out = append(out, Difference{name, e.Types[name].Limits, table})
		}
	}
	return out
}

const theTable = "amazon-vpc-cni-k8s v1.23.2"

// sources says where limits come from, as far as it is not the table alone, and what nobody knows.
func (r *Report) sources(w io.Writer) {
	e := &r.EC2
	if e.Refused != "" {
		fmt.Fprintf(w, "\nCould not tell what EC2 says: IAM does not allow %s in %s (docs/preflight.md#aws has the policy). Limits are those of %s.\n", e.Refused, e.Region, theTable)
	}
	if len(r.Unknown) > 0 {
		said := "not among the instance types of " + theTable + ". With --aws EC2 is asked, which knows newer ones."
		switch {
		case e.Refused != "":
			said = "not among the instance types of " + theTable + "."
		case e.Region != "":
			said = "neither EC2 in " + e.Region + " nor " + theTable + " knows the network interfaces. AWS_REGION names another region."
		}
		fmt.Fprintf(w, "\nCould not tell: %s: %s\n", strings.Join(r.Unknown, ", "), said)
	}
	for _, d := range r.Differences {
		fmt.Fprintf(w, "\n%s: EC2 has %d interfaces with %d addresses each, %s %d with %d: EC2's are used.\n",
			d.Type, d.EC2.Interfaces, d.EC2.Addresses, theTable, d.Table.Interfaces, d.Table.Addresses)
	}
	if e.Region == "" || e.Refused != "" {
		return
	}
	if missing := r.namesOf(func(n *Row) bool { _, known := e.Types[n.Type]; return n.Known && !known }); len(missing) > 0 {
		fmt.Fprintf(w, "\nEC2 in %s says nothing of %s: limits are those of %s.\n", e.Region, strings.Join(missing, ", "), theTable)
	}
	if single := r.namesOf(func(n *Row) bool { return e.single(n.Type) }); r.VPCCNI.PrefixDelegation && len(single) > 0 {
		fmt.Fprintf(w, "\n%s: neither Nitro nor bare metal: the VPC CNI goes on with single addresses there, prefix delegation or not.\n", strings.Join(single, ", "))
	}
}

// namesOf are the instance types of some nodes.
func (r *Report) namesOf(some func(*Row) bool) []string {
	var out []string
	for i := range r.Nodes {
		if some(&r.Nodes[i]) {
			out = append(out, r.Nodes[i].Type)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
