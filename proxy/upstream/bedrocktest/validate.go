package bedrocktest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/schemas"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	"github.com/aws/smithy-go"
)

// CheckConverse judges the body of a Converse or ConverseStream call as
// Bedrock does: first against AWS's own model of the request, then by the
// rules that are known from its refusals; stream tells which of the two it is.
// It returns nil for a good one.
func CheckConverse(body []byte, stream bool) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var request map[string]any
	if err := d.Decode(&request); err != nil || d.More() {
		return fmt.Errorf("the body is not one JSON object: %v", err)
	}
	shape := schemas.ConverseRequest
	if stream {
		shape = schemas.ConverseStreamRequest
	}
	if err := checkShape("", request, shape); err != nil {
		return err
	}
	return checkRules(request)
}

// checkShape compares a value with AWS's model of it: no member may be
// unknown, null or of another type.
func checkShape(path string, v any, s *smithy.Schema) error {
	ok := true
	switch s.Type() {
	case smithy.ShapeTypeStructure, smithy.ShapeTypeUnion:
		return checkMembers(path, v, s)
	case smithy.ShapeTypeList:
		list, isList := v.([]any)
		for i, e := range list {
			if err := checkShape(fmt.Sprintf("%s[%d]", path, i), e, s.ListMember()); err != nil {
				return err
			}
		}
		ok = isList
	case smithy.ShapeTypeMap:
		var members map[string]any
		members, ok = v.(map[string]any)
		for name, e := range members {
			if err := checkShape(path+"."+name, e, s.MapValue()); err != nil {
				return err
			}
		}
	case smithy.ShapeTypeBlob:
		text, isText := v.(string)
		data, err := base64.StdEncoding.DecodeString(text)
		ok = isText && err == nil && len(data) > 0
	case smithy.ShapeTypeString, smithy.ShapeTypeEnum:
		var text string
		text, ok = v.(string)
		if values := enums[s.TargetID().Name]; ok && values != nil && !slices.Contains(values, text) {
			return fmt.Errorf("%s: %q is none of %v", path, text, values)
		}
	case smithy.ShapeTypeBoolean:
		_, ok = v.(bool)
	case smithy.ShapeTypeInteger, smithy.ShapeTypeLong:
		n, isNumber := v.(json.Number)
		_, err := n.Int64()
		ok = isNumber && err == nil
	case smithy.ShapeTypeFloat, smithy.ShapeTypeDouble:
		_, ok = v.(json.Number)
	case smithy.ShapeTypeDocument:
		_, ok = v.(map[string]any)
	default:
		return fmt.Errorf("%s: a type that this fake does not know: %v", path, s.Type())
	}
	if !ok {
		return fmt.Errorf("%s: wrong type or value: %v", path, v)
	}
	return nil
}

func checkMembers(path string, v any, s *smithy.Schema) error {
	members, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: not an object", path)
	}
	if s.Type() == smithy.ShapeTypeUnion && len(members) != 1 {
		return fmt.Errorf("%s: a union with %d members", path, len(members))
	}
	for name, e := range members {
		member := s.Member(name)
		if member == nil {
			return fmt.Errorf("%s: extraneous key [%s] is not permitted", path, name)
		}
		if err := checkShape(strings.TrimPrefix(path+"."+name, "."), e, member); err != nil {
			return err
		}
	}
	return nil
}

func texts[T ~string](values []T) (out []string) {
	for _, v := range values {
		out = append(out, string(v))
	}
	return out
}

// enums are the values of each enumeration, by its name in the model.
var enums = map[string][]string{
	"ImageFormat":              texts(types.ImageFormat("").Values()),
	"DocumentFormat":           texts(types.DocumentFormat("").Values()),
	"AudioFormat":              texts(types.AudioFormat("").Values()),
	"ConversationRole":         {"user", "assistant", "system"},
	"CachePointType":           texts(types.CachePointType("").Values()),
	"CacheTTL":                 texts(types.CacheTTL("").Values()),
	"PerformanceConfigLatency": texts(types.PerformanceConfigLatency("").Values()),
	"ServiceTierType":          texts(types.ServiceTierType("").Values()),
	"GuardrailTrace":           texts(types.GuardrailTrace("").Values()),
	"OutputFormatType":         texts(types.OutputFormatType("").Values()),
	"ToolResultStatus":         texts(types.ToolResultStatus("").Values()),
}

var (
	toolName     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	documentName = regexp.MustCompile(`^[a-zA-Z0-9()\[\]-]+( [a-zA-Z0-9()\[\]-]+)*$`)
)

// checkRules are those of Bedrock and Claude that the model of the request
// does not tell.
func checkRules(request map[string]any) error {
	if len(list(request["messages"])) == 0 {
		return errors.New("messages: there are none")
	}
	if request["system"] != nil && len(list(request["system"])) == 0 {
		return errors.New("system: an empty list")
	}
	c := turnChecker{documents: map[string]bool{}}
	if err := c.turns(list(request["messages"])); err != nil {
		return err
	}
	for _, e := range list(request["system"]) {
		if err := c.block("system", e.(map[string]any)); err != nil {
			return err
		}
	}
	config, _ := request["toolConfig"].(map[string]any)
	if c.tools && config == nil {
		return errors.New("the toolConfig field must be defined when using toolUse and toolResult content blocks")
	}
	if config != nil {
		if err := c.toolConfig(config); err != nil {
			return err
		}
	}
	if c.cachePoints > 4 {
		return fmt.Errorf("%d cache points, at most 4", c.cachePoints)
	}
	return nil
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

type turnChecker struct {
	tools       bool // there are calls or results
	cachePoints int
	documents   map[string]bool // names
}

func (c *turnChecker) turns(messages []any) error {
	role := ""
	var open map[string]bool // ids of the calls in the turn before
	for i, e := range messages {
		m := e.(map[string]any)
		path := fmt.Sprintf("messages.%d", i)
		now, _ := m["role"].(string)
		if now == role || i == 0 && now != "user" {
			return fmt.Errorf("%s: roles must alternate between user and assistant, beginning with user", path)
		}
		role = now
		if len(list(m["content"])) == 0 {
			return fmt.Errorf("%s: the content field is empty", path)
		}
		if now == "system" && len(open) > 0 {
			return fmt.Errorf("%s: expected toolResult blocks for %v", path, open)
		}
		calls, err := c.turn(path, list(m["content"]), open)
		if err != nil {
			return err
		}
		open = calls
	}
	if len(open) > 0 {
		return fmt.Errorf("expected toolResult blocks for %v", open)
	}
	return nil
}

// turn checks the blocks of one turn and returns the ids of its calls.
func (c *turnChecker) turn(path string, blocks []any, open map[string]bool) (map[string]bool, error) {
	calls := map[string]bool{}
	var hasDocument, hasText, other bool
	for _, e := range blocks {
		b := e.(map[string]any)
		if err := c.block(path, b); err != nil {
			return nil, err
		}
		hasText = hasText || b["text"] != nil
		hasDocument = hasDocument || b["document"] != nil
		if use, ok := b["toolUse"].(map[string]any); ok {
			id, _ := use["toolUseId"].(string)
			if calls[id] {
				return nil, fmt.Errorf("%s: two calls of id %s", path, id)
			}
			calls[id] = true
		}
		if result, ok := b["toolResult"].(map[string]any); ok {
			id, _ := result["toolUseId"].(string)
			if !open[id] || other {
				return nil, fmt.Errorf("%s: a toolResult %s that answers no open call, or comes after other content", path, id)
			}
			delete(open, id)
		} else if b["cachePoint"] == nil {
			other = true
		}
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("%s: expected toolResult blocks for %v", path, open)
	}
	if hasDocument && !hasText {
		return nil, fmt.Errorf("%s: a document without text", path)
	}
	return calls, nil
}

func (c *turnChecker) block(path string, b map[string]any) error {
	for kind, v := range b {
		m, _ := v.(map[string]any)
		switch kind {
		case "text":
			if strings.TrimSpace(v.(string)) == "" {
				return fmt.Errorf("%s: text content blocks must contain non-whitespace text", path)
			}
		case "cachePoint":
			c.cachePoints++
		case "document":
			name, _ := m["name"].(string)
			if !documentName.MatchString(name) || c.documents[strings.ToLower(name)] {
				return fmt.Errorf("%s: the document name %q is not allowed, or not the only one", path, name)
			}
			c.documents[strings.ToLower(name)] = true
		case "toolUse":
			c.tools = true
			id, _ := m["toolUseId"].(string)
			name, _ := m["name"].(string)
			if !toolName.MatchString(id) || !toolName.MatchString(name) || m["input"] == nil {
				return fmt.Errorf("%s: toolUse %q %q is not allowed", path, id, name)
			}
		case "toolResult":
			c.tools = true
			if len(list(m["content"])) == 0 {
				return fmt.Errorf("%s: toolResult without content", path)
			}
			for _, e := range list(m["content"]) {
				if err := c.block(path+".toolResult", e.(map[string]any)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (c *turnChecker) toolConfig(config map[string]any) error {
	names := map[string]bool{}
	for _, e := range list(config["tools"]) {
		t := e.(map[string]any)
		if t["cachePoint"] != nil {
			c.cachePoints++
			continue
		}
		spec, _ := t["toolSpec"].(map[string]any)
		name, _ := spec["name"].(string)
		if !toolName.MatchString(name) || names[name] {
			return fmt.Errorf("toolConfig: the name %q is not allowed, or taken", name)
		}
		names[name] = true
		if d, there := spec["description"].(string); there && strings.TrimSpace(d) == "" {
			return fmt.Errorf("toolConfig: %s has a blank description", name)
		}
		input, _ := spec["inputSchema"].(map[string]any)
		schema, _ := input["json"].(map[string]any)
		if schema["type"] != "object" {
			return fmt.Errorf("toolConfig: the schema's type of %s must be one of: object", name)
		}
	}
	if len(names) == 0 {
		return errors.New("toolConfig: no tools")
	}
	choice, _ := config["toolChoice"].(map[string]any)
	if chosen, ok := choice["tool"].(map[string]any); ok && !names[chosen["name"].(string)] {
		return fmt.Errorf("toolConfig: the tool %v is not there", chosen["name"])
	}
	return nil
}
