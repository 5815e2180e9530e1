// Copyright The cni-cutover Authors
// SPDX-License-Identifier: Apache-2.0

package charts

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/cni-cutover/cni-cutover/api/v1alpha1"
	"github.com/cni-cutover/cni-cutover/internal/golden"
)

type schema map[string]any

// kinds are the words that a "+kind" or "+listOf" line of values.yaml may use.
var kinds = map[string]schema{
	"repository":         {"type": "string", "pattern": "^[a-z0-9][a-zA-Z0-9./:_-]*$"},
	"dnsName":            {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", "maxLength": 253},
	"optionalName":       {"type": "string", "pattern": "^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$", "maxLength": 253},
	"path":               {"type": "string", "pattern": "^/"},
	"optionalPath":       {"type": "string", "pattern": "^(/.*)?$"},
	"host":               {"type": "string", "pattern": "^[0-9A-Za-z.:-]*$"},
	"port":               {"type": "integer", "minimum": 1, "maximum": 65535},
	"hostPort":           {"type": "integer", "minimum": 1024, "maximum": 65535, "not": schema{"enum": []int{4240, 6443, 8080, 8081, 9443, 9879, 9962, 10250}}},
	"quantity":           {"type": []string{"string", "number"}, "pattern": "^[0-9]+([.][0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"},
	"countOrPercent":     {"type": []string{"string", "integer"}, "pattern": "^([1-9][0-9]?|100)%$", "minimum": 1},
	"replicas":           {"type": "integer", "minimum": 1, "maximum": 5},
	"verbosity":          {"type": "integer", "minimum": 0, "maximum": 1},
	"prometheusDuration": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"},
	// The one kind of value whose keys people choose.
	"labels": {"type": "object", "additionalProperties": schema{"type": "string"}},
	"check": {"type": "string", "enum": []v1alpha1.CheckName{
		v1alpha1.CheckConflist, v1alpha1.CheckTunnelDevice, v1alpha1.CheckPrograms, v1alpha1.CheckOverlayMaps, v1alpha1.CheckServices, v1alpha1.CheckCiliumAlive,
		v1alpha1.CheckOverlayRoutes, v1alpha1.CheckMTU, v1alpha1.CheckTunnelMeter, v1alpha1.CheckPodAddresses, v1alpha1.CheckLegacyResidue, v1alpha1.CheckDrops, v1alpha1.CheckKernel,
	}},
}

// value is a key of values.yaml with the comment above it. A block, such as agent.resources, has fields.
type value struct {
	path    string
	name    string
	says    string
	marks   map[string]string
	node    *yaml.Node
	fields  []value
	isBlock bool
}

// readValues reads values.yaml. A key without a comment, or with a mark that is not known, is an error.
func readValues(data []byte) ([]value, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("parsing values.yaml: %w", err)
	}
	return fieldsOf(document.Content[0], "")
}

func fieldsOf(block *yaml.Node, prefix string) ([]value, error) {
	var fields []value
	for i := 0; i < len(block.Content); i += 2 {
		key, node := block.Content[i], block.Content[i+1]
		v := value{path: prefix + key.Value, name: key.Value, node: node, marks: map[string]string{}}
		var words []string
		for line := range strings.Lines(key.HeadComment) {
			line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#"))
			if !strings.HasPrefix(line, "+") {
				words = append(words, line)
				continue
			}
			mark, argument, _ := strings.Cut(line[1:], " ")
			v.marks[mark] = argument
		}
		v.says = strings.TrimSpace(strings.Join(words, " "))
		if v.says == "" {
			return nil, fmt.Errorf("values.yaml:%d: %s has no comment: say above it what it is", key.Line, v.path)
		}
		v.isBlock = node.Kind == yaml.MappingNode && len(v.marks) == 0
		if v.isBlock {
			var err error
			if v.fields, err = fieldsOf(node, v.path+"."); err != nil {
				return nil, err
			}
		}
		fields = append(fields, v)
	}
	return fields, nil
}

// schemaOf returns the schema of one value.
func (v value) schema() (schema, error) {
	s := schema{}
	for mark, argument := range v.marks {
		kind, known := kinds[argument]
		switch {
		case mark == "enum":
			s["enum"] = strings.Fields(argument)
		case mark == "kind" && known:
			maps.Copy(s, kind)
		case mark == "listOf" && known:
			s["type"], s["items"], s["uniqueItems"] = "array", kind, true
		default:
			return nil, fmt.Errorf("%s: the mark +%s %s is not known", v.path, mark, argument)
		}
	}
	s["description"] = v.says
	if v.isBlock {
		return s, objectOf(s, v.fields)
	}
	var standard any
	if err := v.node.Decode(&standard); err != nil {
		return nil, fmt.Errorf("decoding the default of %s: %w", v.path, err)
	}
	s["default"] = standard
	if _, typed := s["type"]; typed {
		return s, nil
	}
	switch standard.(type) {
	case string:
		s["type"] = "string"
	case bool:
		s["type"] = "boolean"
	default:
		return nil, fmt.Errorf("%s: its default says too little: add a line +kind or +listOf", v.path)
	}
	return s, nil
}

// objectOf makes s the schema of an object with these fields and no others.
func objectOf(s schema, fields []value) error {
	properties := schema{}
	for _, f := range fields {
		field, err := f.schema()
		if err != nil {
			return err
		}
		properties[f.name] = field
	}
	s["type"], s["properties"], s["additionalProperties"] = "object", properties, false
	return nil
}

func valuesOfChart(t *testing.T) []value {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	fields, err := readValues(data)
	if err != nil {
		t.Fatal(err)
	}
	return fields
}

func TestTheSchemaIsThatOfTheValues(t *testing.T) {
	s := schema{"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart cni-cutover"}
	fields := valuesOfChart(t)
	if err := objectOf(s, fields); err != nil {
		t.Fatal(err)
	}
	// Helm hands its own values to a chart's schema too.
	s["properties"].(schema)["global"] = schema{"type": "object", "description": "Helm's own; not used here."}
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Match(t, filepath.Join(chart, "values.schema.json"), string(out)+"\n")
}

// TestTheSchemaRefusesUnknownKeysEverywhere reads the file itself: whatever derived it, it is what helm obeys.
func TestTheSchemaRefusesUnknownKeysEverywhere(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	keysOfPeople := map[string]bool{".global": true, ".monitoring.podMonitor.labels": true}
	var walk func(path string, s map[string]any)
	walk = func(path string, s map[string]any) {
		if s["type"] == "object" && s["additionalProperties"] != false && !keysOfPeople[path] {
			t.Errorf("%s lets unknown keys through", path)
		}
		properties, _ := s["properties"].(map[string]any)
		for name, p := range properties {
			walk(path+"."+name, p.(map[string]any))
		}
	}
	walk("", root)
}

func TestTheReadmeListsTheValues(t *testing.T) {
	const begin, end = "<!-- values: derived from values.yaml -->\n", "<!-- end of values -->\n"
	data, err := os.ReadFile(filepath.Join(chart, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(data), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("README.md has no place for the values: put %q and %q there", begin, end)
	}
	var table strings.Builder
	table.WriteString("\n| value | default | what it is |\n|---|---|---|\n")
	var rows func([]value)
	rows = func(fields []value) {
		for _, v := range fields {
			if v.isBlock {
				fmt.Fprintf(&table, "| **%s** | | %s |\n", v.path, v.says)
				rows(v.fields)
				continue
			}
			var standard any
			if err := v.node.Decode(&standard); err != nil {
				t.Fatal(err)
			}
			written, err := json.Marshal(standard)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&table, "| `%s` | `%s` | %s |\n", v.path, written, v.says)
		}
	}
	rows(valuesOfChart(t))
	golden.Match(t, filepath.Join(chart, "README.md"), head+begin+table.String()+"\n"+end+tail)
}

func TestAValueMustBeExplained(t *testing.T) {
	for name, text := range map[string]string{
		"no comment":               "a: 1\n",
		"a comment for a block":    "# Block.\na:\n  b: 1\n",
		"a mark is no explanation": "# +kind port\na: 1\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := readValues([]byte(text)); err == nil {
				t.Error("it was let through")
			}
		})
	}
}
