package translate

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// readMessages reads the messages member. Tool messages become user turns
// that hold a tool result, as both dialects want them.
func readMessages(v gjson.Result) ([]message, error) {
	var all []message
	err := eachElement(v, func(i int, e gjson.Result) error {
		m, err := readMessage(i, e)
		all = append(all, m)
		return err
	})
	if err == nil {
		locate(all)
	}
	return all, err
}

// locate completes the blocks' places, which so far are within their message.
func locate(all []message) {
	for i := range all {
		prefix := "messages[" + strconv.Itoa(all[i].index) + "]."
		for j := range all[i].blocks {
			b := &all[i].blocks[j]
			b.param = prefix + b.param
			for k := range b.content {
				b.content[k].param = prefix + b.content[k].param
			}
		}
	}
}

// rawMessage holds the members of one message until its role is known.
type rawMessage struct {
	role, name, callID, refusal, reasoning, signature string

	content, toolCalls, functionCall, thinkingBlocks gjson.Result

	audio bool
	cache *cacheMark
}

func readMessage(index int, v gjson.Result) (message, error) {
	var raw rawMessage
	err := eachMember(v, func(name string, e gjson.Result) error { return within(name, raw.read(name, e)) })
	if err != nil {
		return message{}, err
	}
	m := message{index: index}
	switch raw.role {
	case "system", "developer":
		m.role = roleSystem
		m.blocks, err = readContent(raw.content, systemParts)
	case "user":
		m.role = roleUser
		m.blocks, err = readContent(raw.content, userParts)
		if err == nil && !raw.content.Exists() {
			err = within("content", wrongType(raw.content, "a string or an array of parts"))
		}
	case "assistant":
		m.role = roleAssistant
		m.blocks, err = raw.assistantBlocks(index)
	case "tool":
		m.role = roleUser
		m.blocks, err = raw.toolResult()
	case "function":
		m.role, m.callID = roleFunction, raw.name
		m.blocks, err = readContent(raw.content, toolParts)
	case "":
		err = within("role", missing("one of system, developer, user, assistant, tool"))
	default:
		err = within("role", refusef("expected one of system, developer, user, assistant, tool; got %q", raw.role))
	}
	if err == nil && raw.cache != nil && len(m.blocks) > 0 {
		m.blocks[len(m.blocks)-1].cache = raw.cache
	}
	return m, err
}

func (raw *rawMessage) read(name string, v gjson.Result) (err error) {
	switch name {
	case "role":
		return readString(&raw.role, v)
	case "name":
		return readString(&raw.name, v)
	case "tool_call_id":
		return readString(&raw.callID, v)
	case "refusal":
		return readString(&raw.refusal, v)
	case "reasoning_content":
		return readString(&raw.reasoning, v)
	case "reasoning":
		if v.Type == gjson.String && raw.reasoning == "" { // others send an object here: theirs to know
			raw.reasoning = v.Str
		}
	case "reasoning_signature":
		return readString(&raw.signature, v)
	case "content":
		raw.content = v
	case "tool_calls":
		raw.toolCalls = v
	case "function_call":
		raw.functionCall = v
	case "thinking_blocks":
		raw.thinkingBlocks = v
	case "audio":
		raw.audio = true
		return wantObject(v)
	case "cache_control":
		raw.cache, err = readCacheControl(v)
	}
	return err
}

// assistantBlocks puts reasoning first, then text, then calls.
func (raw *rawMessage) assistantBlocks(index int) ([]block, error) {
	blocks, err := raw.reasoningBlocks()
	if err != nil {
		return nil, err
	}
	said, err := readContent(raw.content, assistantParts)
	if err != nil {
		return nil, err
	}
	spoken := said
	switch last := len(said) - 1; {
	case len(blocks) > 0: // clients that send both mean the same thoughts
		spoken = slices.DeleteFunc(slices.Clone(said), block.isThought)
	case last >= 0 && said[last].isThought() && !raw.toolCalls.Exists(): // nothing may end so
		slices.SortStableFunc(spoken, func(a, b block) int { return thoughtRank(a) - thoughtRank(b) })
	}
	thoughts := blocks
	blocks = slices.Clone(spoken)
	if raw.refusal != "" {
		blocks = append(blocks, block{kind: blockText, text: raw.refusal, param: "refusal"})
	}
	calls, err := raw.calls(index)
	if err != nil {
		return nil, err
	}
	blocks = placeThoughts(thoughts, blocks, calls)
	says := func(b block) bool { return b.kind != blockText || !blank(b.text) }
	if raw.audio && !slices.ContainsFunc(blocks, says) {
		return nil, within("audio", refusef("an earlier spoken answer cannot be sent to this model; send its transcript as content"))
	}
	return blocks, nil
}

func thoughtRank(b block) int {
	if b.isThought() {
		return 0
	}
	return 1
}

// placeThoughts puts thoughts where the answer had them: at their place among
// the text and the calls if they tell it, else first.
func placeThoughts(thoughts, spoken, calls []block) []block {
	all := make([]block, 0, len(thoughts)+len(spoken)+len(calls))
	begin := func(calls, text int64) { // the thoughts that are due there
		for len(thoughts) > 0 && thoughts[0].place.calls <= calls && thoughts[0].place.text <= text {
			all, thoughts = append(all, thoughts[0]), thoughts[1:]
		}
	}
	text := int64(0)
	for _, b := range spoken {
		begin(0, text)
		for len(thoughts) > 0 && b.kind == blockText && thoughts[0].place.calls == 0 {
			at := thoughts[0].place.text - text
			if at <= 0 || at >= int64(len(b.text)) || !utf8.RuneStart(b.text[at]) {
				break
			}
			head := b
			head.text, head.cache = b.text[:at], nil
			all, b.text, text = append(all, head), b.text[at:], text+at
			begin(0, text)
		}
		all, text = append(all, b), text+int64(len(b.text))
	}
	for i, b := range calls {
		begin(int64(i), math.MaxInt64)
		all = append(all, b)
	}
	return append(all, thoughts...)
}

// reasoningBlocks reads the forms in which clients give reasoning back.
func (raw *rawMessage) reasoningBlocks() (blocks []block, err error) {
	if raw.thinkingBlocks.Exists() {
		err = within("thinking_blocks", eachElement(raw.thinkingBlocks, func(i int, e gjson.Result) error {
			b, err := readThinkingBlock(e)
			blocks = append(blocks, b)
			return err
		}))
	}
	if err == nil && len(blocks) == 0 && raw.reasoning != "" {
		blocks = []block{{kind: blockReasoning, text: raw.reasoning, signature: raw.signature, param: "reasoning_content"}}
	}
	return blocks, err
}

func readThinkingBlock(v gjson.Result) (block, error) {
	b := block{kind: blockReasoning, param: "thinking_blocks"}
	var kind string
	err := eachMember(v, func(name string, e gjson.Result) (err error) {
		switch name {
		case "type":
			err = readOneOf(&kind, e, "thinking", "redacted_thinking")
		case "thinking", "text":
			err = readString(&b.text, e)
		case "signature":
			err = readString(&b.signature, e)
		case "data":
			err = readString(&b.data, e)
		case "after_calls":
			b.place.calls, err = intValue(e, 0, math.MaxInt32)
		case "after_text":
			b.place.text, err = intValue(e, 0, math.MaxInt32)
		}
		return within(name, err)
	})
	if err != nil || kind != "redacted_thinking" {
		return b, err
	}
	b.kind, b.text, b.signature = blockRedacted, "", ""
	if _, err := base64.StdEncoding.DecodeString(b.data); err != nil || b.data == "" {
		return b, within("data", refusef("expected base64"))
	}
	return b, nil
}

// calls reads tool_calls and the legacy function_call.
func (raw *rawMessage) calls(index int) (blocks []block, err error) {
	if raw.toolCalls.Exists() {
		err = within("tool_calls", eachElement(raw.toolCalls, func(i int, e gjson.Result) error {
			b, err := readToolCall(e)
			b.param = "tool_calls[" + strconv.Itoa(i) + "]"
			blocks = append(blocks, b)
			return err
		}))
	}
	if err != nil || !raw.functionCall.Exists() {
		return blocks, err
	}
	b := block{kind: blockToolUse, id: "fc_" + strconv.Itoa(index), param: "function_call"}
	err = within("function_call", readFunction(&b, raw.functionCall))
	return append(blocks, b), err
}

func readToolCall(v gjson.Result) (block, error) {
	b := block{kind: blockToolUse}
	kind := "function"
	var function, custom gjson.Result
	err := eachMember(v, func(name string, e gjson.Result) (err error) {
		switch name {
		case "id":
			err = readString(&b.id, e)
		case "type":
			err = readOneOf(&kind, e, "function", "custom")
		case "function":
			function = e
		case "custom":
			custom = e
		case "cache_control":
			b.cache, err = readCacheControl(e)
		}
		return within(name, err)
	})
	if err != nil {
		return b, err
	}
	if b.id == "" {
		return b, within("id", missing("the id of the call"))
	}
	if kind == "custom" {
		return b, within("custom", readCustomCall(&b, custom))
	}
	return b, within("function", readFunction(&b, function))
}

func readFunction(b *block, v gjson.Result) error {
	b.input = "{}"
	err := eachMember(v, func(name string, e gjson.Result) (err error) {
		switch name {
		case "name":
			err = readString(&b.name, e)
		case "arguments":
			var text string
			err = readString(&text, e)
			b.input = toolInput(text)
		}
		return within(name, err)
	})
	if err == nil && b.name == "" {
		err = within("name", missing("the name of the function"))
	}
	return err
}

func readCustomCall(b *block, v gjson.Result) error {
	var input string
	err := eachMember(v, func(name string, e gjson.Result) (err error) {
		switch name {
		case "name":
			err = readString(&b.name, e)
		case "input":
			err = readString(&input, e)
		}
		return within(name, err)
	})
	if err == nil && b.name == "" {
		err = within("name", missing("the name of the tool"))
	}
	b.input = wrapInput("input", input)
	return err
}

// toolInput makes a JSON object of a call's arguments. What the model once
// wrote stays in the history for good, so that nothing in it is refused.
func toolInput(arguments string) string {
	text := strings.TrimSpace(arguments)
	switch {
	case text == "" || text == "null":
		return "{}"
	case rawjson.TooDeep([]byte(text), maxChatDepth) || !gjson.Valid(text):
		return wrapInput("_invalid_arguments", arguments)
	case text[0] != '{':
		return `{"value":` + rawjson.WholePairs(text) + `}`
	}
	return rawjson.WholePairs(text)
}

func wrapInput(name, text string) string {
	var t rawjson.Writer
	t.Object()
	t.StringMember(name, text)
	t.EndObject()
	return string(t)
}

func (raw *rawMessage) toolResult() ([]block, error) {
	if raw.callID == "" {
		return nil, within("tool_call_id", missing("the id of the call that this answers"))
	}
	content, err := readContent(raw.content, toolParts)
	return []block{resultBlock(raw.callID, content, "content")}, err
}

// resultBlock is the result of a call. A mark inside stands for the whole of it.
func resultBlock(id string, content []block, param string) block {
	b := block{kind: blockToolResult, id: id, content: content, param: param}
	for i := range content {
		if content[i].cache != nil {
			b.cache, content[i].cache = content[i].cache, nil
		}
	}
	return b
}

// The kinds of parts that each role may hold.
const (
	systemParts    = "text"
	userParts      = "text image_url input_audio file"
	assistantParts = "text refusal thinking redacted_thinking"
	toolParts      = "text image_url file"
)

// readContent reads content that is a string or an array of parts of the
// given kinds.
func readContent(v gjson.Result, kinds string) ([]block, error) {
	if !v.Exists() {
		return nil, nil
	}
	if v.Type == gjson.String {
		return []block{{kind: blockText, text: v.Str, param: "content"}}, nil
	}
	if !v.IsArray() {
		return nil, within("content", wrongType(v, "a string or an array of parts"))
	}
	var blocks []block
	err := eachElement(v, func(i int, e gjson.Result) error {
		b, err := readPart(e, kinds)
		b.param = "content[" + strconv.Itoa(i) + "]" + b.param
		blocks = append(blocks, b)
		return err
	})
	return blocks, within("content", err)
}

func readPart(v gjson.Result, kinds string) (block, error) {
	if err := wantObject(v); err != nil {
		return block{}, err
	}
	kind := v.Get("type")
	if kind.Type != gjson.String {
		return block{}, within("type", wrongType(kind, "a string"))
	}
	if kind.Str == "" || strings.Contains(kind.Str, " ") || !strings.Contains(" "+kinds+" ", " "+kind.Str+" ") {
		return block{}, within("type", refusef("expected one of %s; got %q", strings.ReplaceAll(kinds, " ", ", "), kind.Str))
	}
	b, err := readPartKind(kind.Str, v)
	if err != nil {
		return b, err
	}
	for _, name := range [...]string{"cache_control", "prompt_cache_breakpoint"} {
		if e := v.Get(name); e.Exists() && e.Type != gjson.Null {
			if b.cache, err = readCacheControl(e); err != nil {
				return b, within(name, err)
			}
		}
	}
	return b, nil
}

func readPartKind(kind string, v gjson.Result) (block, error) {
	b := block{kind: blockText}
	switch kind {
	case "text":
		return b, within("text", readString(&b.text, v.Get("text")))
	case "refusal":
		return b, within("refusal", readString(&b.text, v.Get("refusal")))
	case "thinking", "redacted_thinking":
		b, err := readThinkingBlock(v)
		b.param = ""
		return b, err
	case "image_url":
		return readImage(v.Get("image_url"))
	case "input_audio":
		return readAudio(v.Get("input_audio"))
	}
	return readFile(v.Get("file"))
}

// readCacheControl reads {"type":"ephemeral","ttl":"1h"} and OpenAI's
// {"mode":"explicit"}.
func readCacheControl(v gjson.Result) (*cacheMark, error) {
	mark := &cacheMark{}
	err := eachMember(v, func(name string, e gjson.Result) error {
		if name != "ttl" {
			return nil
		}
		var ttl string
		err := within(name, readOneOf(&ttl, e, "5m", "30m", "1h"))
		mark.hour = ttl == "30m" || ttl == "1h" // 30m is a minimum
		return err
	})
	return mark, err
}
