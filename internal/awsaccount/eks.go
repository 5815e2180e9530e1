// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package awsaccount

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// Cluster is an EKS cluster.
type Cluster struct {
	Name     string     `json:"name"`
	Endpoint string     `json:"endpoint"`
	VPC      ClusterVPC `json:"resourcesVpcConfig"`
}

// ClusterVPC is where a cluster's API servers have their interfaces.
type ClusterVPC struct {
	VPC          string   `json:"vpcId"`
	ClusterGroup string   `json:"clusterSecurityGroupId,omitempty"`
	Groups       []string `json:"securityGroupIds"`
}

// AddOn is an EKS add-on of a cluster. Statuses come one after the other, each time that it is asked for; the last one stays.
type AddOn struct {
	Cluster       string
	Name          string
	Version       string
	Statuses      []string
	Issues        []Issue
	Configuration string
}

// Issue is what ails an add-on.
type Issue struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// NodeGroup is a managed node group.
type NodeGroup struct {
	Cluster       string
	Name          string
	Status        string
	ScalingGroups []string
	Template      string
	Taints        []Taint
	Labels        map[string]string
	Repair        bool
}

// Taint is one that nodes of a group are born with.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Effect string `json:"effect"`
}

// serveEKS answers EKS, which is asked by paths and answers in JSON.
func (a *Account) serveEKS(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	action, of := "", ""
	switch {
	case r.Method != http.MethodGet || path[0] != "clusters":
	case len(path) == 2:
		action = "DescribeCluster"
	case len(path) == 4 && path[2] == "addons":
		action, of = "DescribeAddon", path[3]
	case len(path) == 3 && path[2] == "node-groups":
		action = "ListNodegroups"
	case len(path) == 4 && path[2] == "node-groups":
		action, of = "DescribeNodegroup", path[3]
	}
	if action == "" {
		refuseJSON(w, http.StatusNotFound, "UnknownOperationException", "this account does not play "+r.Method+" "+r.URL.Path)
		return
	}
	fate := a.meet(r, "eks:"+action, of)
	if fate.Code != "" {
		refuseJSON(w, cmp.Or(fate.Status, http.StatusForbidden), fate.Code, "played by the test")
		return
	}
	answer := a.answerEKS(action, path[1], of, r.URL.Query().Get("nextToken"))
	if answer == nil {
		refuseJSON(w, http.StatusNotFound, "ResourceNotFoundException", "No such thing: "+r.URL.Path)
		return
	}
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if fate.Cut {
		cut(w, body)
		return
	}
	_, _ = w.Write(body) // a client that went away is no matter
}

func refuseJSON(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": message})
}

// answerEKS is nil for what is not there.
func (a *Account) answerEKS(action, cluster, of, token string) any {
	at := slices.IndexFunc(a.Clusters, func(c Cluster) bool { return c.Name == cluster })
	if at < 0 {
		return nil
	}
	switch action {
	case "DescribeCluster":
		return map[string]any{"cluster": a.Clusters[at]}
	case "DescribeAddon":
		return a.describeAddon(cluster, of)
	case "ListNodegroups":
		names := []string{}
		for _, n := range a.NodeGroups {
			if n.Cluster == cluster {
				names = append(names, n.Name)
			}
		}
		names, next := page(a, names, token)
		out := map[string]any{"nodegroups": names}
		if next != "" {
			out["nextToken"] = next
		}
		return out
	}
	return a.describeNodegroup(cluster, of)
}

func (a *Account) describeAddon(cluster, name string) any {
	at := slices.IndexFunc(a.AddOns, func(o AddOn) bool { return o.Cluster == cluster && o.Name == name })
	if at < 0 {
		return nil
	}
	o := &a.AddOns[at]
	addOn := map[string]any{
		"addonName": o.Name, "clusterName": cluster, "addonVersion": o.Version, "status": o.Statuses[0], "createdAt": 1764158400.5,
		"addonArn": "arn:aws:eks:" + Region + ":" + Number + ":addon/" + cluster + "/" + name + "/1", "health": map[string]any{"issues": o.Issues},
	}
	if o.Configuration != "" {
		addOn["configurationValues"] = o.Configuration
	}
	if len(o.Statuses) > 1 {
		o.Statuses = o.Statuses[1:]
	}
	return map[string]any{"addon": addOn}
}

func (a *Account) describeNodegroup(cluster, name string) any {
	at := slices.IndexFunc(a.NodeGroups, func(n NodeGroup) bool { return n.Cluster == cluster && n.Name == name })
	if at < 0 {
		return nil
	}
	n := &a.NodeGroups[at]
	groups := []map[string]string{}
	for _, g := range n.ScalingGroups {
		groups = append(groups, map[string]string{"name": g})
	}
	out := map[string]any{
		"nodegroupName": n.Name, "clusterName": cluster, "status": n.Status, "labels": n.Labels, "taints": n.Taints, "createdAt": 1764158400.5,
		"resources": map[string]any{"autoScalingGroups": groups}, "nodeRepairConfig": map[string]any{"enabled": n.Repair},
	}
	if n.Template != "" {
		out["launchTemplate"] = map[string]string{"id": n.Template, "version": "1"}
	}
	return map[string]any{"nodegroup": out}
}
