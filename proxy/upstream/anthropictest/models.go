package anthropictest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// The rules of single models, as their refusals word them. They are kept apart
// from the router's own table on purpose: the one checks the other.
var (
	alwaysThinks  = regexp.MustCompile(`claude-(opus-5-5|sonnet-5-5|fable-5|mythos-)`)
	unforced      = regexp.MustCompile(`claude-(opus-5-5|sonnet-5-5|fable-5-1|mythos-5-1)`)
	adaptiveOnly  = regexp.MustCompile(`claude-(opus-4-[78]|opus-5|sonnet-5|haiku-5|fable-|mythos-)`)
	adaptive      = regexp.MustCompile(`claude-(opus-4-[678]|sonnet-4-6|opus-5|sonnet-5|haiku-5|fable-|mythos-)`)
	nativeSchemas = regexp.MustCompile(`claude-(sonnet-4-[56]|haiku-4-5|opus-4-[5678]|opus-5|sonnet-5|haiku-5|fable-|mythos-)`)
	propertyKey   = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)
)

// refusedKeywords are those that structured output has no room for.
var refusedKeywords = []string{
	"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
	"maxItems", "uniqueItems", "minProperties", "maxProperties", "patternProperties", "oneOf", "not", "if", "then", "else",
}

// checkModel judges a request by the rules of the Claude it is for.
func checkModel(root gjson.Result) error {
	model, thinking, choice := root.Get("model").Str, root.Get("thinking.type").Str, root.Get("tool_choice.type").Str
	effort := root.Get("output_config.effort").Str
	switch {
	case !strings.HasPrefix(model, "claude-"):
	case unforced.MatchString(model) && (choice == "any" || choice == "tool"):
		return fmt.Errorf(`tool_choice: type "tool" and "any" are not supported for this model`)
	case alwaysThinks.MatchString(model) && thinking == "disabled":
		return fmt.Errorf(`"thinking.type.disabled" is not supported for this model`)
	case adaptiveOnly.MatchString(model) && thinking == "enabled":
		return fmt.Errorf(`"thinking.type.enabled" is not supported for this model`)
	case !adaptive.MatchString(model) && thinking == "adaptive":
		return fmt.Errorf(`"thinking.type.adaptive" is not supported for this model`)
	case adaptiveOnly.MatchString(model) && (root.Get("temperature").Exists() || root.Get("top_p").Exists() || root.Get("top_k").Exists()):
		return fmt.Errorf("temperature, top_p and top_k are deprecated for this model")
	case effort == "xhigh" && !adaptiveOnly.MatchString(model), effort == "max" && !adaptive.MatchString(model):
		return fmt.Errorf("output_config.effort: '%s' is not supported by this model", effort)
	case root.Get("output_config.format").Exists() && !nativeSchemas.MatchString(model):
		return fmt.Errorf("output_config.format: Extra inputs are not permitted")
	}
	return checkSchemas(root)
}

// checkSchemas judges the tools and the format of the answer.
func checkSchemas(root gjson.Result) error {
	for i, tool := range root.Get("tools").Array() {
		schema := tool.Get("input_schema")
		for key := range schema.Get("properties").Map() {
			if !propertyKey.MatchString(key) {
				return fmt.Errorf("tools.%d.custom.input_schema.properties: Property keys should match pattern '%s'", i, propertyKey)
			}
		}
		if tool.Get("strict").Bool() {
			if err := checkClosed(schema, true); err != nil {
				return fmt.Errorf("tools.%d.custom: %w", i, err)
			}
		}
	}
	return checkClosed(root.Get("output_config.format.schema"), true)
}

// checkClosed is what structured output asks of a schema.
func checkClosed(v gjson.Result, isSchema bool) (err error) {
	if isSchema && v.IsObject() && v.Get("type").Str == "object" && v.Get("additionalProperties").Raw != "false" {
		return fmt.Errorf("output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false")
	}
	if !v.IsObject() && !v.IsArray() {
		return nil
	}
	v.ForEach(func(key, e gjson.Result) bool {
		switch name := key.Str; {
		case v.IsArray():
			err = checkClosed(e, isSchema)
		case isSchema && slices.Contains(refusedKeywords, name):
			err = fmt.Errorf("output_config.format.schema: property '%s' is not supported", name)
		case isSchema && (name == "enum" || name == "const" || name == "default"):
		default:
			err = checkClosed(e, !isSchema || name != "properties" && name != "$defs" && name != "definitions")
		}
		return err == nil
	})
	return err
}
