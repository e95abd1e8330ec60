package upstream

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/translate"
)

// simulatedCall is the call that a simulated model makes of a tool.
type simulatedCall struct {
	id, name, arguments string
	custom              bool
}

// callFor is the call that answers r: of the tool that the client forces, else
// of the first, with what it requires filled in. nil when there are no tools,
// none may be called, or the last message is a tool's result already.
func callFor(r *translate.Request, id string) *simulatedCall {
	tools := gjson.ParseBytes(r.Raw("tools")).Array()
	choice := gjson.ParseBytes(r.Raw("tool_choice"))
	if len(tools) == 0 || choice.Str == "none" {
		return nil
	}
	messages := gjson.ParseBytes(r.Raw("messages")).Array()
	if len(messages) > 0 && messages[len(messages)-1].Get("role").Str == "tool" {
		return nil
	}
	tool := tools[0]
	for _, t := range tools {
		kind := t.Get("type").Str
		if name := choice.Get(kind + ".name").Str; name != "" && t.Get(kind+".name").Str == name {
			tool = t
		}
	}
	c := &simulatedCall{id: "call_" + strings.TrimPrefix(id, "chatcmpl-")}
	if tool.Get("type").Str == "custom" {
		c.custom, c.name, c.arguments = true, tool.Get("custom.name").Str, "simulated input"
		return c
	}
	c.name = tool.Get("function.name").Str
	if c.arguments = sample(tool.Get("function.parameters"), tool.Get("function.parameters"), 0); c.arguments == "" || c.arguments[0] != '{' {
		c.arguments = "{}"
	}
	return c
}

// sample is a value that meets a JSON schema, the same each time. root is where
// its references lead.
func sample(schema, root gjson.Result, depth int) string {
	const deepest = 16
	if depth > deepest {
		return "null"
	}
	if ref := schema.Get(`\$ref`).Str; strings.HasPrefix(ref, "#/") {
		return sample(root.Get(strings.ReplaceAll(gjson.Escape(ref[2:]), "/", ".")), root, depth+1)
	}
	for _, name := range []string{"const", "enum.0", "default"} {
		if v := schema.Get(name); v.Exists() {
			return v.Raw
		}
	}
	for _, name := range []string{"anyOf.0", "oneOf.0", "allOf.0"} {
		if v := schema.Get(name); v.Exists() {
			return sample(v, root, depth+1)
		}
	}
	kind := schema.Get("type")
	if kind.IsArray() {
		kind = kind.Get("0")
	}
	switch {
	case kind.Str == "object" || schema.Get("properties").Exists():
		return sampleObject(schema, root, depth)
	case kind.Str == "array":
		return sampleArray(schema, root, depth)
	case kind.Str == "integer", kind.Str == "number":
		return sampleNumber(schema)
	case kind.Str == "boolean":
		return "true"
	case kind.Str == "null":
		return "null"
	}
	return string(quote(sampleText(schema)))
}

func sampleObject(schema, root gjson.Result, depth int) string {
	var required []string
	for _, name := range schema.Get("required").Array() {
		required = append(required, name.Str)
	}
	out := []byte{'{'}
	schema.Get("properties").ForEach(func(name, property gjson.Result) bool {
		if slices.Contains(required, name.Str) {
			if len(out) > 1 {
				out = append(out, ',')
			}
			out = append(append(out, quote(name.Str)...), ':')
			out = append(out, sample(property, root, depth+1)...)
		}
		return true
	})
	return string(append(out, '}'))
}

func sampleArray(schema, root gjson.Result, depth int) string {
	n := min(max(schema.Get("minItems").Int(), 1), 16)
	item := sample(schema.Get("items"), root, depth+1)
	return "[" + strings.TrimSuffix(strings.Repeat(item+",", int(n)), ",") + "]"
}

func sampleNumber(schema gjson.Result) string {
	n := int64(1)
	if low := schema.Get("minimum"); low.Exists() {
		n = max(n, low.Int())
	}
	if low := schema.Get("exclusiveMinimum"); low.Type == gjson.Number {
		n = max(n, low.Int()+1)
	}
	if high := schema.Get("maximum"); high.Exists() {
		n = min(n, high.Int())
	}
	return strconv.FormatInt(n, 10)
}

// sampleText is a text in the format that a schema asks for.
func sampleText(schema gjson.Result) string {
	switch schema.Get("format").Str {
	case "date":
		return "2026-01-01"
	case "date-time":
		return "2026-01-01T00:00:00Z"
	case "time":
		return "00:00:00Z"
	case "email":
		return "someone@example.com"
	case "uri", "url":
		return "https://example.com"
	case "uuid":
		return "00000000-0000-4000-8000-000000000000"
	}
	text := "example"
	if n := int(min(schema.Get("minLength").Int(), 4096)); n > len(text) {
		text += strings.Repeat("x", n-len(text))
	}
	if n := schema.Get("maxLength"); n.Exists() && n.Int() >= 0 && n.Int() < int64(len(text)) {
		text = text[:n.Int()]
	}
	return text
}

// kind is what the call is in OpenAI's JSON, and what its input is called.
func (c *simulatedCall) kind() (kind, input string) {
	if c.custom {
		return "custom", "input"
	}
	return "function", "arguments"
}

// member is the call as members of an object, with so much of its input.
func (c *simulatedCall) member(input string) []byte {
	kind, name := c.kind()
	return fmt.Appendf(nil, `"id":%s,"type":"%s","%s":{"name":%s,"%s":%s}`, quote(c.id), kind, kind, quote(c.name), name, quote(input))
}

// part is a delta with a part of its input.
func (c *simulatedCall) part(token string) []byte {
	kind, name := c.kind()
	return fmt.Appendf(nil, `"tool_calls":[{"index":0,"%s":{"%s":%s}}]`, kind, name, quote(token))
}
