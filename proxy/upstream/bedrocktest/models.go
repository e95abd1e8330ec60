//lint:file-ignore ST1005 the messages are the providers' own words

package bedrocktest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The rules of single models, as their refusals word them. They are kept apart
// from the router's own table on purpose: the one checks the other.
var (
	alwaysThinks  = regexp.MustCompile(`claude-(opus-5-5|sonnet-5-5|fable-5|mythos-)`)
	unforced      = regexp.MustCompile(`claude-(opus-5-5|sonnet-5-5|fable-5-1|mythos-5-1)`)
	adaptiveOnly  = regexp.MustCompile(`claude-(opus-4-[78]|opus-5|sonnet-5|haiku-5|fable-|mythos-)`)
	nativeSchemas = regexp.MustCompile(`claude-(sonnet-4-[56]|haiku-4-5|opus-4-[568]|sonnet-5|haiku-5-5|mythos-5)|qwen\.qwen3-(vl|32b|235b|next|coder-[34])|deepseek\.v3|minimax-m2$|kimi-k2-thinking|mistral-large-3|nemotron-nano-3|glm-5`)
	flatEffort    = regexp.MustCompile(`gpt-oss|kimi|deepseek\.v3`)
	nestedEffort  = regexp.MustCompile(`openai\.gpt-[56]`)
	propertyKey   = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)
)

// refusedKeywords are those that structured output has no room for.
var refusedKeywords = []string{
	"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
	"maxItems", "uniqueItems", "minProperties", "maxProperties", "patternProperties", "oneOf", "not", "if", "then", "else",
}

// modelRequest is what of a request the rules of models are about.
type modelRequest struct {
	ToolConfig struct {
		Tools []struct {
			ToolSpec struct {
				Name        string
				Strict      bool
				InputSchema struct{ JSON map[string]any }
			}
		}
		ToolChoice map[string]any
	}
	Additional   map[string]json.RawMessage `json:"additionalModelRequestFields"`
	OutputConfig struct {
		TextFormat *struct {
			Structure struct {
				JSONSchema struct{ Schema string }
			}
		}
	}
}

// checkModel judges a request by the rules of the model it is for.
func checkModel(model string, body []byte) error {
	var r modelRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return err
	}
	var choice, thinking struct{ Type string }
	_ = json.Unmarshal(r.Additional["tool_choice"], &choice)
	_ = json.Unmarshal(r.Additional["thinking"], &thinking)
	forced := r.ToolConfig.ToolChoice["any"] != nil || r.ToolConfig.ToolChoice["tool"] != nil
	claude := strings.Contains(model, "claude")
	switch {
	case len(r.ToolConfig.ToolChoice) > 0 && choice.Type != "":
		return errors.New("The additional field tool_choice/type conflicts with the existing field toolConfig.toolChoice. Remove tool_choice/type and try again.")
	case unforced.MatchString(model) && forced:
		return errors.New(`tool_choice: type "tool" and "any" are not supported for this model.`)
	case strings.HasPrefix(model, "meta.") && forced:
		return errors.New("This model doesn't support the toolConfig.toolChoice.any field.")
	case alwaysThinks.MatchString(model) && thinking.Type == "disabled":
		return errors.New(`"thinking.type.disabled" is not supported for this model.`)
	case adaptiveOnly.MatchString(model) && thinking.Type == "enabled":
		return errors.New(`"thinking.type.enabled" is not supported for this model.`)
	case claude && forced && (thinking.Type == "enabled" || thinking.Type == "adaptive"):
		return errors.New("Thinking may not be enabled when tool_choice forces tool use.")
	case r.Additional["reasoning_effort"] != nil && !flatEffort.MatchString(model):
		return errors.New("Unknown parameter: 'reasoning_effort'.")
	case r.Additional["reasoning"] != nil && !nestedEffort.MatchString(model):
		return errors.New("Unknown parameter: 'reasoning'.")
	case r.OutputConfig.TextFormat != nil && !nativeSchemas.MatchString(model):
		return errors.New("output_config.format: Extra inputs are not permitted")
	}
	return r.checkSchemas(claude)
}

// checkSchemas judges the tools and the format of the answer.
func (r *modelRequest) checkSchemas(claude bool) error {
	for i, t := range r.ToolConfig.Tools {
		properties, _ := t.ToolSpec.InputSchema.JSON["properties"].(map[string]any)
		for key := range properties {
			if claude && !propertyKey.MatchString(key) {
				return fmt.Errorf("tools.%d.custom.input_schema.properties: Property keys should match pattern '%s'", i, propertyKey)
			}
		}
		if t.ToolSpec.Strict {
			if err := checkClosed(t.ToolSpec.InputSchema.JSON, true); err != nil {
				return fmt.Errorf("tools.%d.custom: %w", i, err)
			}
		}
	}
	if f := r.OutputConfig.TextFormat; f != nil {
		var schema map[string]any
		if err := json.Unmarshal([]byte(f.Structure.JSONSchema.Schema), &schema); err != nil {
			return err
		}
		return checkClosed(schema, true)
	}
	return nil
}

// checkClosed is what structured output asks of a schema.
func checkClosed(v any, isSchema bool) error {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := checkClosed(e, isSchema); err != nil {
				return err
			}
		}
	case map[string]any:
		if kind := v["type"]; isSchema && kind == "object" && v["additionalProperties"] != false {
			return errors.New("output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false")
		}
		for name, e := range v {
			if isSchema && slices.Contains(refusedKeywords, name) {
				return fmt.Errorf("output_config.format.schema: property '%s' is not supported", name)
			}
			if name == "enum" || name == "const" || name == "default" {
				continue
			}
			named := isSchema && (name == "properties" || name == "$defs" || name == "definitions")
			if err := checkClosed(e, !named); err != nil {
				return err
			}
		}
	}
	return nil
}
