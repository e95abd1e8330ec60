package translate

import (
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// SplitOpenAI makes a stream of a whole answer, for the client that asked for
// one and whose upstream does not stream: one chunk with all of it and, unless
// hidden, one with the usage.
func SplitOpenAI(whole Chunk, o OpenAIOptions) Chunks {
	return func(yield func(Chunk, error) bool) {
		root := gjson.ParseBytes(whole.Data)
		content := Chunk{
			Data: append(splitHead(root), ']', '}'), Malformed: whole.Malformed, More: true,
			OutputBytes: whole.OutputBytes, Finish: whole.Finish, Head: &Head{RequestID: o.RequestID, Header: o.Header},
		}
		if !yield(content, nil) {
			return
		}
		usage := root.Get("usage")
		c := Chunk{Usage: whole.Usage, Done: true}
		if usage.IsObject() && !o.HideUsage {
			c.Done = false
			c.Data = append(splitTop(root), `],"usage":`...)
			c.Data = append(append(c.Data, usage.Raw...), '}')
		}
		if yield(c, nil) && !c.Done {
			yield(Chunk{Done: true}, nil)
		}
	}
}

// splitTop is a chunk up to its choices, as the whole answer has it.
func splitTop(root gjson.Result) []byte {
	out := []byte(`{"object":"chat.completion.chunk"`)
	for _, name := range []string{"id", "created", "model", "system_fingerprint", "service_tier"} {
		if v := root.Get(name); v.Exists() {
			out = append(append(append(out, `,"`...), name...), `":`...)
			out = append(out, v.Raw...)
		}
	}
	return append(out, `,"choices":[`...)
}

// splitHead is a chunk up to the last of its choices.
func splitHead(root gjson.Result) []byte {
	out := splitTop(root)
	for i, choice := range root.Get("choices").Array() {
		if i > 0 {
			out = append(out, ',')
		}
		out = splitObject(out, choice, func(out []byte, name string, v gjson.Result) []byte {
			if name == "message" {
				return splitObject(append(out, `"delta":`...), v, splitCalls)
			}
			return nil
		})
	}
	return out
}

// splitObject writes an object with the members as they are, but for those
// that change writes itself. What is no object stays as it is.
func splitObject(out []byte, v gjson.Result, change func(out []byte, name string, v gjson.Result) []byte) []byte {
	if !v.IsObject() {
		return append(out, v.Raw...)
	}
	out = append(out, '{')
	v.ForEach(func(name, v gjson.Result) bool {
		if out[len(out)-1] != '{' {
			out = append(out, ',')
		}
		if changed := change(out, name.Str, v); changed != nil {
			out = changed
		} else {
			out = append(append(append(out, name.Raw...), ':'), v.Raw...)
		}
		return true
	})
	return append(out, '}')
}

// splitCalls gives the tool calls of a message the index that they need in a
// delta.
func splitCalls(out []byte, name string, calls gjson.Result) []byte {
	if name != "tool_calls" || !calls.IsArray() {
		return nil
	}
	out = append(out, `"tool_calls":[`...)
	for i, call := range calls.Array() {
		if i > 0 {
			out = append(out, ',')
		}
		if !call.IsObject() || call.Get("index").Exists() {
			out = append(out, call.Raw...)
			continue
		}
		out = strconv.AppendInt(append(out, `{"index":`...), int64(i), 10)
		if rest := call.Raw[1:]; strings.TrimSpace(rest) != "}" {
			out = append(append(out, ','), rest...)
		} else {
			out = append(out, '}')
		}
	}
	return append(out, ']')
}
