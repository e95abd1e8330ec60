package anthropictest

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Message is an answer that can be given whole and as a stream.
type Message struct {
	ID     string // default msg_test
	Model  string // default claude-test
	Blocks []Block
	Stop   string // stop_reason; default end_turn
	// Details is the JSON of stop_details; "" when there are none.
	Details string
	Usage   Usage
}

// Usage is what a message reports. Input and cache counts come with a stream's
// beginning, the output's running total with its end.
type Usage struct {
	Input, Output, CacheRead, CacheWrite, Thinking int64
}

// Block is one content block: its JSON when whole, and the pieces it is
// streamed in.
type Block struct {
	whole  string
	start  string   // the block as it stands in content_block_start
	deltas []string // the JSON of each delta
}

// Text is a text block that streams in the pieces given.
func Text(pieces ...string) Block {
	b := Block{
		whole: object("type", "text", "text", strings.Join(pieces, "")),
		start: object("type", "text", "text", ""),
	}
	for _, p := range pieces {
		b.deltas = append(b.deltas, object("type", "text_delta", "text", p))
	}
	return b
}

// Thinking is a thinking block with its signature.
func Thinking(signature string, pieces ...string) Block {
	b := Block{
		whole: object("type", "thinking", "thinking", strings.Join(pieces, ""), "signature", signature),
		start: object("type", "thinking", "thinking", "", "signature", ""),
	}
	for _, p := range pieces {
		b.deltas = append(b.deltas, object("type", "thinking_delta", "thinking", p))
	}
	b.deltas = append(b.deltas, object("type", "signature_delta", "signature", signature))
	return b
}

// Redacted is a redacted thinking block.
func Redacted(data string) Block {
	whole := object("type", "redacted_thinking", "data", data)
	return Block{whole: whole, start: whole}
}

// ToolUse is a tool call whose input's JSON streams in the pieces given.
// Without pieces the input is {} and no delta comes.
func ToolUse(id, name string, pieces ...string) Block {
	return toolUse("tool_use", id, name, pieces)
}

// ServerToolUse is a call that the provider itself carries out.
func ServerToolUse(id, name string, pieces ...string) Block {
	return toolUse("server_tool_use", id, name, pieces)
}

func toolUse(kind, id, name string, pieces []string) Block {
	input := strings.Join(pieces, "")
	if input == "" {
		input = "{}"
	}
	head := object("type", kind, "id", id, "name", name)
	b := Block{
		whole: strings.TrimSuffix(head, "}") + `,"input":` + input + "}",
		start: strings.TrimSuffix(head, "}") + `,"input":{}}`,
	}
	for _, p := range pieces {
		b.deltas = append(b.deltas, object("type", "input_json_delta", "partial_json", p))
	}
	return b
}

// Raw is a block of any kind, whole in its start event, followed by deltas.
func Raw(block string, deltas ...string) Block {
	return Block{whole: block, start: block, deltas: deltas}
}

// object is the JSON of an object of strings: names and values in turn.
func object(members ...string) string {
	var b strings.Builder
	for i := 0; i < len(members); i += 2 {
		name, _ := json.Marshal(members[i])
		value, _ := json.Marshal(members[i+1])
		fmt.Fprintf(&b, ",%s:%s", name, value)
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

func (m Message) withDefaults() Message {
	if m.ID == "" {
		m.ID = "msg_test"
	}
	if m.Model == "" {
		m.Model = "claude-test"
	}
	if m.Stop == "" {
		m.Stop = "end_turn"
	}
	if m.Details == "" {
		m.Details = "null"
	}
	return m
}

func (u Usage) start() string {
	return fmt.Sprintf(`"input_tokens":%d,"cache_creation_input_tokens":%d,"cache_read_input_tokens":%d`,
		u.Input, u.CacheWrite, u.CacheRead)
}

func (u Usage) end() string {
	s := fmt.Sprintf(`"output_tokens":%d`, u.Output)
	if u.Thinking > 0 {
		s += fmt.Sprintf(`,"output_tokens_details":{"thinking_tokens":%d}`, u.Thinking)
	}
	return s
}

// JSON is the whole answer.
func (m Message) JSON() string {
	m = m.withDefaults()
	blocks := make([]string, len(m.Blocks))
	for i, b := range m.Blocks {
		blocks[i] = b.whole
	}
	return fmt.Sprintf(`{"id":%q,"type":"message","role":"assistant","model":%q,"content":[%s],"stop_reason":%q,"stop_sequence":null,"stop_details":%s,"usage":{%s,%s}}`,
		m.ID, m.Model, strings.Join(blocks, ","), m.Stop, m.Details, m.Usage.start(), m.Usage.end())
}

// Events is the streamed answer: the JSON of each event's data, whose type is
// the event's name.
func (m Message) Events() []string {
	m = m.withDefaults()
	events := []string{fmt.Sprintf(`{"type":"message_start","message":{"id":%q,"type":"message","role":"assistant","model":%q,"content":[],"stop_reason":null,"stop_sequence":null,"usage":{%s,"output_tokens":1}}}`,
		m.ID, m.Model, m.Usage.start())}
	for i, b := range m.Blocks {
		events = append(events, fmt.Sprintf(`{"type":"content_block_start","index":%d,"content_block":%s}`, i, b.start))
		for _, d := range b.deltas {
			events = append(events, fmt.Sprintf(`{"type":"content_block_delta","index":%d,"delta":%s}`, i, d))
		}
		events = append(events, fmt.Sprintf(`{"type":"content_block_stop","index":%d}`, i))
	}
	return append(events,
		fmt.Sprintf(`{"type":"message_delta","delta":{"stop_reason":%q,"stop_sequence":null,"stop_details":%s},"usage":{%s}}`, m.Stop, m.Details, m.Usage.end()),
		`{"type":"message_stop"}`)
}
