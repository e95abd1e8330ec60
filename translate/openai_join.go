package translate

import (
	"errors"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// Join collects an answer, streamed or whole, into one chat.completion.
func Join(answer Chunks) ([]byte, error) {
	var j joined
	for c, err := range answer {
		switch {
		case err != nil:
			return nil, err
		case c.Whole:
			return append([]byte(nil), c.Data...), nil
		case len(c.Data) > 0 && !c.Comment:
			j.add(gjson.ParseBytes(c.Data))
		}
	}
	if !j.seen {
		return nil, errors.New("join an answer: there are no chunks")
	}
	return j.completion(), nil
}

// joined is what has been collected of a streamed answer.
type joined struct {
	seen            bool
	id, model, tier string
	created         string // JSON
	usage           string // JSON
	fingerprint     string
	choices         []joinedChoice
}

type joinedChoice struct {
	content, reasoning, refusal strings.Builder
	spoke, refused              bool
	thinking                    []string // JSON of each block
	calls                       []joinedCall
	function                    *joinedCall
	finish                      string
	logprobs                    []string // JSON of each token of content
}

type joinedCall struct {
	id, kind, name string
	input          strings.Builder
}

func (j *joined) add(v gjson.Result) {
	if !j.seen {
		j.seen = true
		j.id, j.model, j.created = v.Get("id").Str, v.Get("model").Str, v.Get("created").Raw
	}
	if u := v.Get("usage"); u.IsObject() {
		j.usage = u.Raw
	}
	if t := v.Get("service_tier"); t.Type == gjson.String {
		j.tier = t.Str
	}
	if f := v.Get("system_fingerprint"); f.Type == gjson.String {
		j.fingerprint = f.Str
	}
	v.Get("choices").ForEach(func(_, c gjson.Result) bool {
		i := int(c.Get("index").Int())
		if i < 0 || i >= 128 {
			return true
		}
		for len(j.choices) <= i {
			j.choices = append(j.choices, joinedChoice{})
		}
		j.choices[i].add(c)
		return true
	})
}

func (c *joinedChoice) add(v gjson.Result) {
	if f := v.Get("finish_reason"); f.Type == gjson.String {
		c.finish = f.Str
	}
	v.Get("logprobs.content").ForEach(func(_, e gjson.Result) bool {
		c.logprobs = append(c.logprobs, e.Raw)
		return true
	})
	d := v.Get("delta")
	if s := d.Get("content"); s.Type == gjson.String {
		c.content.WriteString(s.Str)
		c.spoke = true
	}
	if s := d.Get("refusal"); s.Type == gjson.String {
		c.refusal.WriteString(s.Str)
		c.refused = true
	}
	c.reasoning.WriteString(d.Get("reasoning_content").Str)
	d.Get("thinking_blocks").ForEach(func(_, b gjson.Result) bool {
		c.thinking = append(c.thinking, b.Raw)
		return true
	})
	d.Get("tool_calls").ForEach(func(_, e gjson.Result) bool {
		i := int(e.Get("index").Int())
		if i < 0 || i >= 512 {
			return true
		}
		for len(c.calls) <= i {
			c.calls = append(c.calls, joinedCall{kind: "function"})
		}
		c.calls[i].add(e)
		return true
	})
	if f := d.Get("function_call"); f.IsObject() {
		if c.function == nil {
			c.function = &joinedCall{}
		}
		c.function.name += f.Get("name").Str
		c.function.input.WriteString(f.Get("arguments").Str)
	}
}

func (c *joinedCall) add(v gjson.Result) {
	if s := v.Get("id").Str; s != "" {
		c.id = s
	}
	if s := v.Get("type").Str; s != "" {
		c.kind = s
	}
	for _, f := range []gjson.Result{v.Get("function"), v.Get("custom")} {
		c.name += f.Get("name").Str
		c.input.WriteString(f.Get("arguments").Str)
		c.input.WriteString(f.Get("input").Str)
	}
}

func (j *joined) completion() []byte {
	var t rawjson.Writer
	t.Object()
	t.StringMember("id", j.id)
	t.StringMember("object", "chat.completion")
	if j.created != "" {
		t.RawMember("created", j.created)
	}
	t.StringMember("model", j.model)
	t.OpenArray("choices")
	for i := range j.choices {
		j.choices[i].write(&t, i)
	}
	t.EndArray()
	if j.tier != "" {
		t.StringMember("service_tier", j.tier)
	}
	if j.fingerprint != "" {
		t.StringMember("system_fingerprint", j.fingerprint)
	}
	if j.usage != "" {
		t.RawMember("usage", j.usage)
	}
	t.EndObject()
	return t
}

func (c *joinedChoice) write(t *rawjson.Writer, index int) {
	t.Object()
	t.IntMember("index", int64(index))
	t.OpenObject("message")
	t.StringMember("role", "assistant")
	t.Key("content")
	if c.content.Len() == 0 && (len(c.calls) > 0 || c.function != nil || !c.spoke) {
		t.Raw("null")
	} else {
		t.String(c.content.String())
	}
	t.Key("refusal")
	if c.refused {
		t.String(c.refusal.String())
	} else {
		t.Raw("null")
	}
	if c.reasoning.Len() > 0 {
		t.StringMember("reasoning_content", c.reasoning.String())
	}
	if len(c.thinking) > 0 {
		t.OpenArray("thinking_blocks")
		for _, b := range c.thinking {
			t.Raw(b)
		}
		t.EndArray()
	}
	c.writeCalls(t)
	t.EndObject()
	t.Key("logprobs")
	if len(c.logprobs) > 0 {
		t.Raw(`{"content":[` + strings.Join(c.logprobs, ",") + `]}`)
	} else {
		t.Raw("null")
	}
	t.Key("finish_reason")
	if c.finish == "" {
		t.Raw("null")
	} else {
		t.String(c.finish)
	}
	t.EndObject()
}

func (c *joinedChoice) writeCalls(t *rawjson.Writer) {
	if c.function != nil {
		t.OpenObject("function_call")
		t.StringMember("name", c.function.name)
		t.StringMember("arguments", c.function.input.String())
		t.EndObject()
	}
	if len(c.calls) == 0 {
		return
	}
	t.OpenArray("tool_calls")
	for i := range c.calls {
		call := &c.calls[i]
		writeToolCall(t, wholeCall{id: call.id, name: call.name, arguments: call.input.String(), custom: call.kind == "custom"})
	}
	t.EndArray()
}
