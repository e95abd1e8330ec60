package translate

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Schemas are rewritten as text: what is not touched keeps its bytes, so that
// large numbers, 1.0 and the order of properties, which models answer in,
// survive.

// emptySchema is the schema of a tool without parameters.
const emptySchema = `{"type":"object","properties":{}}`

// toolSchema returns a tool's schema in the form that models accept: an object
// at the root, no $schema or $id, and no choice between objects there.
func toolSchema(schema string, caps Capabilities) string {
	root := gjson.Parse(schema)
	if !root.IsObject() || len(root.Map()) == 0 {
		return emptySchema
	}
	if caps.FlatSchema {
		return flatSchema(root)
	}
	var t jsonText
	t.object()
	t.stringMember("type", "object")
	properties, required := mergedRoot(root, caps.Family == "claude")
	t.rawMember("properties", properties)
	if required != "" {
		t.rawMember("required", required)
	}
	root.ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "type", "properties", "required", "$schema", "$id":
			return true
		case "anyOf", "oneOf", "allOf":
			if caps.Family == "claude" {
				return true
			}
		}
		t.comma()
		t = append(t, k.Raw...)
		t = append(t, ':')
		t.raw(v.Raw)
		return true
	})
	t.endObject()
	return string(t)
}

// mergedRoot returns the root's properties and required names. With merge, the
// members of anyOf, oneOf and allOf are laid into them: a property is required
// when every alternative requires it, or any part of allOf.
func mergedRoot(root gjson.Result, merge bool) (properties, required string) {
	own := root.Get("properties")
	if !merge || !root.Get("anyOf").Exists() && !root.Get("oneOf").Exists() && !root.Get("allOf").Exists() {
		if !own.IsObject() {
			return "{}", root.Get("required").Raw
		}
		return own.Raw, root.Get("required").Raw
	}
	var t jsonText
	t.object()
	seen := map[string]bool{}
	add := func(v gjson.Result) {
		v.ForEach(func(k, e gjson.Result) bool {
			if !seen[k.Str] {
				seen[k.Str] = true
				t.comma()
				t = append(t, k.Raw...)
				t = append(t, ':')
				t.raw(e.Raw)
			}
			return true
		})
	}
	add(own)
	names := stringList(root.Get("required"))
	for _, part := range root.Get("allOf").Array() {
		part = resolveRef(root, part)
		add(part.Get("properties"))
		names = append(names, stringList(part.Get("required"))...)
	}
	for _, choice := range []string{"anyOf", "oneOf"} {
		var common []string
		for i, part := range root.Get(choice).Array() {
			part = resolveRef(root, part)
			add(part.Get("properties"))
			wanted := stringList(part.Get("required"))
			if i == 0 {
				common = wanted
			}
			common = slices.DeleteFunc(common, func(s string) bool { return !slices.Contains(wanted, s) })
		}
		names = append(names, common...)
	}
	t.endObject()
	return string(t), requiredList(names)
}

func requiredList(names []string) string {
	if len(names) == 0 {
		return ""
	}
	var t jsonText
	t.array()
	for i, name := range names {
		if !slices.Contains(names[:i], name) {
			t.string(name)
		}
	}
	t.endArray()
	return string(t)
}

func stringList(v gjson.Result) (list []string) {
	for _, e := range v.Array() {
		list = append(list, e.Str)
	}
	return list
}

// flatSchema leaves only type, properties and required at the root and writes
// out what the properties refer to, for models that refuse anything else.
func flatSchema(root gjson.Result) string {
	properties, required := mergedRoot(root, true)
	var t jsonText
	t.object()
	t.stringMember("type", "object")
	t.key("properties")
	writeInlined(&t, root, gjson.Parse(properties), nil)
	if required != "" {
		t.rawMember("required", required)
	}
	t.endObject()
	return string(t)
}

// maxInlined bounds how large a schema may grow when references are written out.
const maxInlined = 1 << 20

// writeInlined copies v with every $ref into root replaced by what it names.
// A reference within itself becomes an object of any kind.
func writeInlined(t *jsonText, root, v gjson.Result, open []string) {
	switch {
	case v.IsArray():
		t.array()
		v.ForEach(func(_, e gjson.Result) bool { writeInlined(t, root, e, open); return true })
		t.endArray()
		return
	case !v.IsObject():
		t.raw(v.Raw)
		return
	}
	if ref := v.Get(`$ref`); ref.Type == gjson.String {
		target := resolveRef(root, v)
		if slices.Contains(open, ref.Str) || target.Raw == v.Raw || len(*t) > maxInlined {
			t.raw(`{"type":"object"}`)
			return
		}
		writeInlined(t, root, target, append(slices.Clip(open), ref.Str))
		return
	}
	t.object()
	v.ForEach(func(k, e gjson.Result) bool {
		if k.Str == "$defs" || k.Str == "definitions" {
			return true
		}
		t.comma()
		*t = append(*t, k.Raw...)
		*t = append(*t, ':')
		writeInlined(t, root, e, open)
		return true
	})
	t.endObject()
}

// resolveRef follows a reference within root; v itself when it is none.
func resolveRef(root, v gjson.Result) gjson.Result {
	ref := v.Get(`$ref`)
	pointer, ok := strings.CutPrefix(ref.Str, "#/")
	if !ok {
		return v
	}
	at := root
	for name := range strings.SplitSeq(pointer, "/") {
		name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
		at = memberOf(at, name)
	}
	if !at.IsObject() {
		return v
	}
	return at
}

// memberOf looks a name up literally; gjson's paths give some characters a meaning.
func memberOf(v gjson.Result, name string) (found gjson.Result) {
	i, _ := strconv.Atoi(name)
	n := 0
	v.ForEach(func(k, e gjson.Result) bool {
		if v.IsObject() && k.Str == name || v.IsArray() && n == i {
			found = e
		}
		n++
		return !found.Exists()
	})
	return found
}

// closedSchema returns a schema with additionalProperties:false in every
// object that does not say, as structured output demands, and without $schema.
func closedSchema(schema string) string {
	var t jsonText
	writeClosed(&t, gjson.Parse(schema), true)
	return string(t)
}

// writeClosed copies v; isSchema tells a schema from a map of named schemas.
func writeClosed(t *jsonText, v gjson.Result, isSchema bool) {
	if v.IsArray() {
		t.array()
		v.ForEach(func(_, e gjson.Result) bool { writeClosed(t, e, isSchema); return true })
		t.endArray()
		return
	}
	if !v.IsObject() {
		t.raw(v.Raw)
		return
	}
	object, closed := false, false
	t.object()
	v.ForEach(func(k, e gjson.Result) bool {
		if isSchema && k.Str == "$schema" {
			return true
		}
		t.comma()
		*t = append(*t, k.Raw...)
		*t = append(*t, ':')
		if !isSchema {
			writeClosed(t, e, true)
			return true
		}
		object = object || k.Str == "properties" || k.Str == "type" && isObjectType(e)
		closed = closed || k.Str == "additionalProperties"
		switch k.Str {
		case "properties", "$defs", "definitions", "patternProperties":
			writeClosed(t, e, false)
		case "items", "anyOf", "oneOf", "allOf", "prefixItems", "not":
			writeClosed(t, e, true)
		default:
			t.raw(e.Raw)
		}
		return true
	})
	if isSchema && object && !closed {
		t.rawMember("additionalProperties", "false")
	}
	t.endObject()
}

func isObjectType(v gjson.Result) bool {
	return v.Str == "object" || v.IsArray() && slices.Contains(stringList(v), "object")
}

// outputSchema is a response format that the model keeps to by itself.
type outputSchema struct {
	name, description, schema string
}

// jsonToolName is the tool that stands for a response format where the model
// knows no such thing.
const jsonToolName = "json_tool_call"

// settleFormat decides how the model is brought to answer in the client's
// format: by itself (the result is then not nil), through a tool of our own
// whose input is the answer (its name is returned), or by being told to.
// Call it between settleTools and settleReasoning.
func (c *chat) settleFormat(caps Capabilities) (native *outputSchema, jsonTool string) {
	f := c.format
	switch {
	case f.kind == "":
	case f.kind == "json_object":
		c.tell("Answer with a single JSON object and nothing else.")
	case caps.StructuredOutput == "native":
		return &outputSchema{name: f.name, description: f.description, schema: closedSchema(f.schema)}, ""
	case caps.StructuredOutput == "tool" && caps.Tools && caps.ToolChoice:
		return nil, c.addJSONTool(caps)
	default:
		c.cannot("response_format", true, "this model cannot be held to a JSON schema")
		c.tell("Answer with a single JSON object and nothing else. It must match this JSON schema: " + f.schema)
	}
	return nil, ""
}

// tell adds a sentence to the system text.
func (c *chat) tell(text string) {
	c.system = append(c.system, block{kind: blockText, text: text})
}

// addJSONTool adds the tool unless the client forces a call of its own: the
// answer is that call then.
func (c *chat) addJSONTool(caps Capabilities) string {
	if c.choice.mode != "" {
		return ""
	}
	name := jsonToolName
	for slices.ContainsFunc(c.tools, func(t tool) bool { return t.name == name }) {
		name += "_"
	}
	own := tool{name: name, description: c.format.description, schema: c.format.schema, param: "response_format"}
	if own.description == "" {
		own.description = "Give the answer in this form."
	}
	c.choice = toolChoice{mode: "tool", name: name, param: "response_format"}
	if len(c.tools) > 0 || !caps.NamedToolChoice {
		c.choice.mode = "required"
	}
	c.tools = append(slices.Clip(c.tools), own)
	return name
}
