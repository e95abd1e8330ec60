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

// closedSchema returns a schema within the subset that structured output and
// strict tools take: every object has additionalProperties:false, oneOf reads
// anyOf, and what the subset has no word for stands in the descriptions, where
// the model reads it.
func closedSchema(schema string) string {
	var t rawjson.Writer
	writeClosed(&t, gjson.Parse(schema))
	return string(t)
}

// schemaMaps are the keywords whose values are named schemas, subschemas those
// whose values are one or a list of them.
var (
	schemaMaps = map[string]bool{"properties": true, "$defs": true, "definitions": true}
	subschemas = map[string]bool{"items": true, "anyOf": true, "oneOf": true, "allOf": true}
	// plainKeywords are the others that every platform takes.
	plainKeywords = map[string]bool{
		"type": true, "enum": true, "const": true, "required": true, "default": true, "title": true,
		"$ref": true, "additionalProperties": true, "description": true,
	}
	// knownFormats are the values of format that are taken.
	knownFormats = map[string]bool{
		"date-time": true, "time": true, "date": true, "duration": true, "email": true, "hostname": true,
		"uri": true, "ipv4": true, "ipv6": true, "uuid": true,
	}
)

// isPlainKeyword reports whether a keyword stays as it is.
func isPlainKeyword(name string, v gjson.Result) bool {
	switch name {
	case "format":
		return knownFormats[v.Str]
	case "minItems":
		return v.Raw == "0" || v.Raw == "1"
	}
	return plainKeywords[name]
}

// writeClosed copies a schema, or a list of schemas.
func writeClosed(t *rawjson.Writer, v gjson.Result) {
	if v.IsArray() {
		t.Array()
		v.ForEach(func(_, e gjson.Result) bool { writeClosed(t, e); return true })
		t.EndArray()
		return
	}
	if !v.IsObject() {
		t.Raw(v.Raw)
		return
	}
	var limits []string
	object, description := false, gjson.Result{}
	t.Object()
	v.ForEach(func(k, e gjson.Result) bool {
		object = object || k.Str == "properties" || k.Str == "type" && isObjectType(e)
		switch {
		case k.Str == "description":
			description = e
		case k.Str == "additionalProperties", k.Str == "$schema", k.Str == "$id", k.Str == "$comment":
		case k.Str == "oneOf" && !v.Get("anyOf").Exists():
			t.Key("anyOf")
			writeClosed(t, e)
		case schemaMaps[k.Str] && e.IsObject():
			t.RawKey(k.Raw)
			writeClosedMap(t, e)
		case subschemas[k.Str]:
			t.RawKey(k.Raw)
			writeClosed(t, e)
		case isPlainKeyword(k.Str, e):
			copyMember(t, k, e.Raw)
		default:
			limits = append(limits, k.Str+": "+e.Raw)
		}
		return true
	})
	if len(limits) > 0 {
		text := strings.TrimSpace(description.Str + "\n{" + strings.Join(limits, ", ") + "}")
		t.StringMember("description", text)
	} else if description.Exists() {
		t.RawMember("description", description.Raw)
	}
	if object {
		t.RawMember("additionalProperties", "false")
	}
	t.EndObject()
}

func writeClosedMap(t *rawjson.Writer, v gjson.Result) {
	t.Object()
	v.ForEach(func(k, e gjson.Result) bool {
		t.RawKey(k.Raw)
		writeClosed(t, e)
		return true
	})
	t.EndObject()
}

// isOpen reports whether a schema has objects with properties that it does not
// name, or refers to itself: structured output, which closes objects, could
// give no answer to it.
func isOpen(v gjson.Result, isSchema bool) (open bool) {
	if v.IsArray() {
		return slices.ContainsFunc(v.Array(), func(e gjson.Result) bool { return isOpen(e, isSchema) })
	}
	if !v.IsObject() {
		return false
	}
	v.ForEach(func(k, e gjson.Result) bool {
		switch {
		case !isSchema:
			open = isOpen(e, true)
		case k.Str == "additionalProperties":
			open = e.IsObject() || e.Type == gjson.True && !v.Get("properties").Exists()
		case k.Str == "patternProperties":
			open = len(e.Map()) > 0
		case k.Str == "$ref":
			open = e.Str == "#"
		case schemaMaps[k.Str]:
			open = isOpen(e, false)
		case subschemas[k.Str]:
			open = isOpen(e, true)
		}
		return !open
	})
	return open
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
	byTool := caps.StructuredOutput != "none" && caps.Tools
	switch {
	case f.kind == "":
	case f.kind == "json_object":
		c.ask = append(c.ask, ask{text: "Answer with a single JSON object and nothing else."})
	case caps.StructuredOutput == "native" && !(byTool && caps.ToolChoice && c.choice.mode == "" && isOpen(gjson.Parse(f.schema), true)):
		return &outputSchema{name: f.name, description: f.description, schema: closedSchema(f.schema)}, ""
	case byTool && !c.silent:
		return nil, c.addJSONTool(caps)
	default:
		c.markUnsupported("response_format", !byTool, "this model cannot be held to a JSON schema")
		c.ask = append(c.ask, ask{text: "Answer with a single JSON object and nothing else. It must match this JSON schema: " + f.schema})
	}
	return nil, ""
}

// addJSONTool adds the tool unless the client forces a call of its own: the
// answer is that call then. A model that cannot be made to call it is asked to.
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
	switch {
	case !caps.ToolChoice:
		c.ask = append(c.ask, ask{text: "Give your final answer by calling the tool %s. If you write it instead, write its JSON object and nothing else.", tool: name})
	case len(c.tools) > 0 || !caps.NamedToolChoice:
		c.choice = toolChoice{mode: "required", name: name, param: "response_format"}
	default:
		c.choice = toolChoice{mode: "tool", name: name, param: "response_format"}
	}
	c.tools = append(slices.Clip(c.tools), own)
	return name
}
