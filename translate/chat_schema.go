package translate

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
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
	refs := &references{root: root}
	if caps.FlatSchema {
		return flatSchema(refs)
	}
	var t rawjson.Writer
	t.Object()
	t.StringMember("type", "object")
	properties, required := mergedRoot(refs, root, caps.Family == "claude")
	t.RawMember("properties", properties)
	if required != "" {
		t.RawMember("required", required)
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
		copyMember(&t, k, v.Raw)
		return true
	})
	t.EndObject()
	return string(t)
}

// mergedRoot returns a root's properties and required names. With merge, the
// members of anyOf, oneOf and allOf are laid into them: a property is required
// when every alternative requires it, or any part of allOf.
func mergedRoot(refs *references, root gjson.Result, merge bool) (properties, required string) {
	own := root.Get("properties")
	if !merge || !root.Get("anyOf").Exists() && !root.Get("oneOf").Exists() && !root.Get("allOf").Exists() {
		if !own.IsObject() {
			return "{}", root.Get("required").Raw
		}
		return own.Raw, root.Get("required").Raw
	}
	m := mergedSchema{seen: map[string]bool{}}
	m.t.Object()
	m.add(own)
	m.require(root.Get("required"))
	for _, part := range root.Get("allOf").Array() {
		part = refs.resolve(part)
		m.add(part.Get("properties"))
		m.require(part.Get("required"))
	}
	for _, choice := range []string{"anyOf", "oneOf"} {
		wanted := map[string]int{} // by name: how many alternatives require it
		parts := root.Get(choice).Array()
		for _, part := range parts {
			part = refs.resolve(part)
			m.add(part.Get("properties"))
			for _, name := range part.Get("required").Array() {
				if wanted[name.Str]++; wanted[name.Str] == len(parts) {
					m.required = append(m.required, name.Str)
				}
			}
		}
	}
	m.t.EndObject()
	return string(m.t), requiredList(m.required)
}

// mergedSchema collects properties, the first of each name, and required names.
type mergedSchema struct {
	t        rawjson.Writer
	seen     map[string]bool // names of properties
	required []string
}

func (m *mergedSchema) add(properties gjson.Result) {
	properties.ForEach(func(k, e gjson.Result) bool {
		if !m.seen[k.Str] {
			m.seen[k.Str] = true
			copyMember(&m.t, k, e.Raw)
		}
		return true
	})
}

func (m *mergedSchema) require(names gjson.Result) {
	for _, name := range names.Array() {
		m.required = append(m.required, name.Str)
	}
}

// member copies a member under the name it has.
func copyMember(t *rawjson.Writer, name gjson.Result, json string) {
	t.RawKey(name.Raw)
	t.Raw(json)
}

func requiredList(names []string) string {
	if len(names) == 0 {
		return ""
	}
	seen := map[string]bool{}
	var t rawjson.Writer
	t.Array()
	for _, name := range names {
		if !seen[name] {
			seen[name] = true
			t.String(name)
		}
	}
	t.EndArray()
	return string(t)
}

// flatSchema leaves only type, properties and required at the root and writes
// out what the properties refer to, for models that refuse anything else.
func flatSchema(refs *references) string {
	properties, required := mergedRoot(refs, refs.resolve(refs.root), true)
	in := inliner{refs: refs}
	in.t.Object()
	in.t.StringMember("type", "object")
	in.t.Key("properties")
	in.write(gjson.Parse(properties), true, nil)
	if required != "" {
		in.t.RawMember("required", required)
	}
	in.t.EndObject()
	return string(in.t)
}

// How large a schema may grow when references are written out, and how many
// bytes may be read to look them up and through; past that they become objects
// of any kind.
const (
	maxInlined  = 1 << 20
	maxSearched = 16 << 20
)

// inliner copies a schema with every $ref replaced by what it names.
type inliner struct {
	t    rawjson.Writer
	refs *references
}

// write copies v, which is a schema or, with names, a map of them; open are
// the references that it stands within. A reference within itself becomes an
// object of any kind.
func (in *inliner) write(v gjson.Result, names bool, open []string) {
	switch {
	case v.IsArray():
		in.t.Array()
		v.ForEach(func(_, e gjson.Result) bool { in.write(e, false, open); return true })
		in.t.EndArray()
		return
	case !v.IsObject():
		in.t.Raw(v.Raw)
		return
	}
	if ref := v.Get("$ref"); !names && ref.Type == gjson.String {
		target := in.refs.resolve(v)
		if target.Raw == v.Raw || slices.Contains(open, ref.Str) || len(in.t) > maxInlined {
			in.t.Raw(`{"type":"object"}`)
			return
		}
		in.write(target, false, append(slices.Clip(open), ref.Str))
		return
	}
	in.t.Object()
	v.ForEach(func(k, e gjson.Result) bool {
		if !names && (k.Str == "$defs" || k.Str == "definitions") {
			return true
		}
		in.t.RawKey(k.Raw)
		in.write(e, !names && (k.Str == "properties" || k.Str == "patternProperties"), open)
		return true
	})
	in.t.EndObject()
}

// references looks up what each $ref of a schema names, once.
type references struct {
	root     gjson.Result
	known    map[string]gjson.Result // by $ref; what cannot be had does not exist
	searched int                     // bytes, and those found
}

// resolve follows a reference; v itself when it is none, or leads nowhere.
func (r *references) resolve(v gjson.Result) gjson.Result {
	ref := v.Get("$ref").Str
	if !strings.HasPrefix(ref, "#/") {
		return v
	}
	found, known := r.known[ref]
	if !known {
		if r.searched += len(r.root.Raw); r.searched <= maxSearched {
			found = r.lookUp(ref)
		}
		if r.known == nil {
			r.known = map[string]gjson.Result{}
		}
		r.known[ref] = found
	}
	// Each use costs reading it, too: a small schema can refer to a large part of
	// itself very often.
	if r.searched += len(found.Raw); !found.IsObject() || r.searched > maxSearched {
		return v
	}
	return found
}

// lookUp follows a JSON pointer from the root. As a part of a URL it may be
// escaped as those are.
func (r *references) lookUp(ref string) gjson.Result {
	at := r.root
	if plain, err := url.PathUnescape(ref); err == nil {
		ref = plain
	}
	for name := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		at = memberOf(at, strings.NewReplacer("~1", "/", "~0", "~").Replace(name))
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
	var t rawjson.Writer
	writeClosed(&t, gjson.Parse(schema), true)
	return string(t)
}

// writeClosed copies v; isSchema tells a schema from a map of named schemas.
func writeClosed(t *rawjson.Writer, v gjson.Result, isSchema bool) {
	if v.IsArray() {
		t.Array()
		v.ForEach(func(_, e gjson.Result) bool { writeClosed(t, e, isSchema); return true })
		t.EndArray()
		return
	}
	if !v.IsObject() {
		t.Raw(v.Raw)
		return
	}
	object, closed := false, false
	t.Object()
	v.ForEach(func(k, e gjson.Result) bool {
		if isSchema && k.Str == "$schema" {
			return true
		}
		t.RawKey(k.Raw)
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
			t.Raw(e.Raw)
		}
		return true
	})
	if isSchema && object && !closed {
		t.RawMember("additionalProperties", "false")
	}
	t.EndObject()
}

func isObjectType(v gjson.Result) bool {
	return v.Str == "object" || slices.ContainsFunc(v.Array(), func(e gjson.Result) bool { return e.Str == "object" })
}

// outputSchema is a response format that the model keeps to by itself.
type outputSchema struct {
	name, description, schema string
}

// jsonToolName is the tool that stands for a response format where the model
// knows no such thing.
const jsonToolName = "json_tool_call"

// resolveFormat decides how the model is brought to answer in the client's
// format: by itself (the result is then not nil), through a tool of our own
// whose input is the answer (its name is returned), or by being told to.
// Call it between resolveTools and resolveReasoning.
func (c *chat) resolveFormat(caps Capabilities) (native *outputSchema, jsonTool string) {
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
		c.markUnsupported("response_format", true, "this model cannot be held to a JSON schema")
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
