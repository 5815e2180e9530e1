// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsaccount

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
)

// problem is a service's error.
type problem struct{ code, message string }

// serveQuery answers the services that are asked by forms and answer in XML.
func (a *Account) serveQuery(w http.ResponseWriter, r *http.Request, service string) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	name := r.PostForm.Get("Action")
	of := cmp.Or(r.PostForm.Get("LaunchTemplateId"), r.PostForm.Get("TargetGroupArn"))
	fate := a.meet(r, service+":"+name, of)
	if fate.Code != "" {
		refuse(w, service, cmp.Or(fate.Status, http.StatusForbidden), problem{fate.Code, "played by the test"})
		return
	}
	answer, wrong := a.answer(service, name, r.PostForm)
	if wrong != nil {
		refuse(w, service, http.StatusBadRequest, *wrong)
		return
	}
	body, err := xml.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if service != "ec2" {
		body = fmt.Appendf(nil, "<%sResponse>%s</%sResponse>", name, body, name)
	}
	w.Header().Set("Content-Type", "text/xml")
	if fate.Cut {
		cut(w, body)
		return
	}
	_, _ = w.Write(body) // a client that went away is no matter
}

func (a *Account) answer(service, name string, form url.Values) (any, *problem) {
	switch service + ":" + name {
	case "ec2:DescribeInstances":
		return a.describeInstances(form)
	case "ec2:DescribeInstanceTypes":
		return a.describeInstanceTypes(form)
	case "ec2:DescribeLaunchTemplateVersions":
		return a.describeLaunchTemplateVersions(form)
	case "ec2:DescribeSecurityGroupRules":
		return a.describeSecurityGroupRules(form)
	case "ec2:DescribeVpcs":
		return a.describeVPCs(form)
	case "ec2:DescribeRouteTables":
		return a.describeRouteTables(form)
	case "autoscaling:DescribeAutoScalingGroups":
		return a.describeAutoScalingGroups(form)
	case "elasticloadbalancing:DescribeTargetGroups":
		return a.describeTargetGroups(form)
	case "elasticloadbalancing:DescribeTargetHealth":
		return a.describeTargetHealth(form)
	case "elasticloadbalancing:DescribeLoadBalancers":
		return a.describeLoadBalancers(form)
	}
	return nil, &problem{"InvalidAction", "this account does not play " + service + ":" + name}
}

// refuse answers with an error, in EC2's form or in that of the others.
func refuse(w http.ResponseWriter, service string, status int, p problem) {
	type failure struct {
		Type    string `xml:",omitempty"`
		Code    string
		Message string
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	var body any
	if service == "ec2" {
		body = struct {
			XMLName xml.Name `xml:"Response"`
			Error   failure  `xml:"Errors>Error"`
			ID      string   `xml:"RequestID"`
		}{Error: failure{"", p.code, p.message}, ID: "r-1"}
	} else {
		body = struct {
			XMLName xml.Name `xml:"ErrorResponse"`
			Error   failure
			ID      string `xml:"RequestId"`
		}{Error: failure{"Sender", p.code, p.message}, ID: "r-1"}
	}
	_ = xml.NewEncoder(w).Encode(body)
}

// list is the values of prefix.1, prefix.2 and so on.
func list(form url.Values, prefix string) []string {
	var out []string
	for i := 1; ; i++ {
		key := fmt.Sprintf("%s.%d", prefix, i)
		if !form.Has(key) {
			return out
		}
		out = append(out, form.Get(key))
	}
}

// filters are EC2's; one that the account does not know is refused, as an answer that heeds it not would be a lie.
func filters(form url.Values, known ...string) (map[string][]string, *problem) {
	out := map[string][]string{}
	for i := 1; form.Has(fmt.Sprintf("Filter.%d.Name", i)); i++ {
		name := form.Get(fmt.Sprintf("Filter.%d.Name", i))
		if !slices.Contains(known, name) {
			return nil, &problem{"InvalidParameterValue", "The filter '" + name + "' is invalid"}
		}
		out[name] = list(form, fmt.Sprintf("Filter.%d.Value", i))
		if len(out[name]) > 200 {
			return nil, &problem{"FilterLimitExceeded", "The maximum number of filter values specified on a single call is 200"}
		}
	}
	return out, nil
}

// filtered is a page of what the one filter that a question may have lets through.
func filtered[T any](a *Account, form url.Values, all []T, filter string, of func(T) string) (found []T, next string, wrong *problem) {
	f, wrong := filters(form, filter)
	if wrong != nil {
		return nil, "", wrong
	}
	found, next = page(a, such(all, f[filter], f[filter] != nil, of), form.Get("NextToken"))
	return found, next, nil
}

// such keeps what a filter lets through.
func such[T any](all []T, filter []string, given bool, of func(T) string) []T {
	return slices.DeleteFunc(slices.Clone(all), func(t T) bool { return given && !slices.Contains(filter, of(t)) })
}
