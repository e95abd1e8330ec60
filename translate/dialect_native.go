package translate

import (
	"cmp"
	"github.com/inference-router/inference-router/internal/rawjson"

	"bytes"
	"iter"
	"strings"

	"github.com/tidwall/gjson"
)

// FromNative passes on a streamed answer in the client's own dialect, event by
// event as it came, and reads what is billed and recorded from it. It ends with
// a chunk that says Done and holds the last event, or with an error.
func FromNative(d Dialect, events iter.Seq2[Event, error], requestID string) Chunks {
	return func(yield func(Chunk, error) bool) {
		s := nativeStream{dialect: d, head: &Head{RequestID: requestID}, yield: yield}
		for e, err := range events {
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			if !s.event(e) {
				return
			}
		}
		if !s.begun {
			yield(Chunk{}, &UpstreamError{Kind: KindBadResponse, Code: "upstream_bad_response", Message: "The upstream sent an empty answer.", Billed: BilledUnknown})
			return
		}
		yield(Chunk{}, &UpstreamError{Kind: KindInterrupted, Code: "stream_interrupted", Message: "The upstream's answer ended before it was complete.", Billed: BilledPartly})
	}
}

// nativeStream is what is known of a stream so far.
type nativeStream struct {
	dialect Dialect
	head    *Head
	yield   func(Chunk, error) bool
	begun   bool
	inside  bool // in the middle of an event that comes in pieces
	held    []Chunk
	usage   *Usage
	id      string
}

// event passes one event on; false ends the stream.
func (s *nativeStream) event(e Event) bool {
	if e.Comment {
		return s.yield(Chunk{Comment: true, Data: e.Data, More: e.More}, nil)
	}
	if s.inside || e.Partial {
		c := Chunk{Data: e.Data, Partial: e.Partial, More: e.More, OutputBytes: int64(len(e.Data))}
		if !s.inside {
			c.Event = e.Name
		}
		s.inside = e.Partial
		return s.pass(c)
	}
	if len(bytes.TrimSpace(e.Data)) == 0 || isDone(e.Data) {
		return true
	}
	name := e.Name
	if name == "" {
		name = gjson.GetBytes(e.Data, "type").Str
	}
	c := Chunk{Data: e.Data, Event: name, More: e.More}
	if s.dialect == DialectMessages {
		return s.messages(c)
	}
	return s.responses(c)
}

// pass hands a chunk on, after those that were held.
func (s *nativeStream) pass(c Chunk) bool {
	for _, h := range s.held {
		h.Head, s.head = s.head, nil
		if !s.yield(h, nil) {
			return false
		}
	}
	s.held = nil
	c.Head, s.head = s.head, nil
	s.begun = true
	if c.Sequence == 0 {
		c.AnswerID = s.id
	}
	return s.yield(c, nil) && !c.Done
}

func (s *nativeStream) fail(detail gjson.Result, data []byte) bool {
	var err *UpstreamError
	if s.dialect == DialectMessages {
		err = anthropicError(detail, 0)
	} else {
		raw := []byte(detail.Raw)
		if !detail.IsObject() {
			raw = data
		}
		err = inBandError(raw, data)
	}
	err.Body = nil
	if s.begun {
		err.Billed = BilledPartly
	}
	s.yield(Chunk{}, err)
	return false
}

// messages reads an event of the Messages API.
func (s *nativeStream) messages(c Chunk) bool {
	switch c.Event {
	case "error":
		return s.fail(gjson.GetBytes(c.Data, "error"), c.Data)
	case "ping":
		if !s.begun {
			return s.yield(Chunk{Comment: true, More: c.More}, nil)
		}
	case "message_start":
		s.readMessagesUsage(gjson.GetBytes(c.Data, "message.usage"))
		s.id = gjson.GetBytes(c.Data, "message.id").Str
		c.Usage = s.usage
	case "message_delta":
		s.readMessagesUsage(gjson.GetBytes(c.Data, "usage"))
		c.Usage = s.usage
		c.Finish = chatFinish(gjson.GetBytes(c.Data, "delta.stop_reason").Str)
	case "message_stop":
		c.Done = true
	case "content_block_delta":
		c.OutputBytes = deltaBytes(c.Data)
	case "content_block_start":
		c.OutputBytes = int64(len(gjson.GetBytes(c.Data, "content_block.name").Str))
	}
	return s.pass(c)
}

// deltaBytes bounds what a delta says, without looking into it.
func deltaBytes(data []byte) int64 {
	i := bytes.Index(data, []byte(`"delta":`))
	if i < 0 {
		return int64(len(data))
	}
	return int64(max(0, len(data)-i-len(`"delta":{"type":"text_delta","text":""}}`)))
}

// chatFinish is the finish_reason that a stop_reason stands for.
func chatFinish(reason string) string {
	switch reason {
	case "max_tokens", "model_context_window_exceeded":
		return "length"
	case "tool_use":
		return "tool_calls"
	case "refusal":
		return "content_filter"
	case "":
		return ""
	}
	return "stop"
}

// readMessagesUsage takes in counts that are cumulative: each count's greatest
// holds.
func (s *nativeStream) readMessagesUsage(v gjson.Result) {
	if u := messagesUsage(v); u != nil {
		s.usage = u.AtLeast(s.usage)
	}
}

// AtLeast is u with each count at least that of other, which may be nil. The
// tier is u's, where it tells one.
func (u *Usage) AtLeast(other *Usage) *Usage {
	if other == nil {
		return u
	}
	m := *u
	m.InputTokens = max(m.InputTokens, other.InputTokens)
	m.OutputTokens = max(m.OutputTokens, other.OutputTokens)
	m.CachedTokens = max(m.CachedTokens, other.CachedTokens)
	m.CacheWriteTokens = max(m.CacheWriteTokens, other.CacheWriteTokens)
	m.CacheWriteHourTokens = max(m.CacheWriteHourTokens, other.CacheWriteHourTokens)
	m.ReasoningTokens = max(m.ReasoningTokens, other.ReasoningTokens)
	m.CacheTTLKnown = m.CacheTTLKnown || other.CacheTTLKnown
	m.AudioInputTokens = max(m.AudioInputTokens, other.AudioInputTokens)
	m.AudioOutputTokens = max(m.AudioOutputTokens, other.AudioOutputTokens)
	m.CachedAudioTokens = max(m.CachedAudioTokens, other.CachedAudioTokens)
	m.Searches = max(m.Searches, other.Searches)
	m.Tier = cmp.Or(m.Tier, other.Tier)
	m.Cost, m.CostKnown = max(m.Cost, other.Cost), m.CostKnown || other.CostKnown
	return &m
}

// messagesUsage reads a usage object of the Messages API; nil when it makes no
// sense.
func messagesUsage(v gjson.Result) *Usage {
	input, a := tokenCount(v.Get("input_tokens"))
	cached, b := tokenCount(v.Get("cache_read_input_tokens"))
	written, c := tokenCount(v.Get("cache_creation_input_tokens"))
	output, d := tokenCount(v.Get("output_tokens"))
	if !v.IsObject() || !a || !b || !c || !d {
		return nil
	}
	u := &Usage{InputTokens: input + cached + written, OutputTokens: output, CachedTokens: cached, CacheWriteTokens: written}
	if hour := v.Get("cache_creation.ephemeral_1h_input_tokens"); hour.Exists() {
		u.CacheWriteHourTokens, u.CacheTTLKnown = min(max(hour.Int(), 0), written), true
	}
	u.Searches, u.Tier = messagesExtras(v)
	u.Cost, u.CostKnown = reportedCost(v)
	return u
}

// responsesUsage reads what a response of the Responses API used; nil when that
// makes no sense.
func responsesUsage(response gjson.Result) *Usage {
	v := response.Get("usage")
	input, a := tokenCount(v.Get("input_tokens"))
	output, b := tokenCount(v.Get("output_tokens"))
	if !v.IsObject() || !a || !b || !v.Get("input_tokens").Exists() {
		return nil
	}
	cached, _ := tokenCount(v.Get("input_tokens_details.cached_tokens"))
	written, _ := tokenCount(v.Get("input_tokens_details.cache_write_tokens"))
	thought, _ := tokenCount(v.Get("output_tokens_details.reasoning_tokens"))
	u := &Usage{InputTokens: input, OutputTokens: max(output, thought), ReasoningTokens: thought, CachedTokens: min(cached, input)}
	u.CacheWriteTokens = min(written, input-u.CachedTokens)
	heard, _ := tokenCount(v.Get("input_tokens_details.audio_tokens"))
	spoken, _ := tokenCount(v.Get("output_tokens_details.audio_tokens"))
	u.AudioInputTokens, u.AudioOutputTokens = min(heard, u.InputTokens), min(spoken, u.OutputTokens)
	u.Searches = responsesSearches(response)
	u.Tier = tierName(response.Get("service_tier").Str)
	u.Cost, u.CostKnown = reportedCost(v)
	return u
}

// tokenCount reads a count that may be absent.
func tokenCount(v gjson.Result) (int64, bool) {
	if !v.Exists() || v.Type == gjson.Null {
		return 0, true
	}
	n, err := intValue(v, 0, maxCount)
	return n, err == nil
}

// responses reads an event of the Responses API. What announces an answer is
// held until there is something in it: until then another upstream may answer.
func (s *nativeStream) responses(c Chunk) bool {
	c.Sequence = gjson.GetBytes(c.Data, "sequence_number").Int()
	switch c.Event {
	case "response.created", "response.in_progress", "response.queued":
		if !s.begun {
			c.AnswerID = gjson.GetBytes(c.Data, "response.id").Str
			s.id = c.AnswerID
			c.Data = bytes.Clone(c.Data)
			s.held = append(s.held, c)
			return true
		}
	case "error":
		v := gjson.GetBytes(c.Data, "error")
		if !v.Exists() {
			v = gjson.ParseBytes(c.Data)
		}
		return s.fail(v, c.Data)
	case "response.failed":
		return s.fail(gjson.GetBytes(c.Data, "response.error"), c.Data)
	case "response.completed", "response.incomplete":
		r := gjson.GetBytes(c.Data, "response")
		s.usage = responsesUsage(r)
		c.Usage, c.Done = s.usage, true
		c.Finish = responsesFinish(r)
		c.Malformed = c.Usage == nil && r.Get("usage").IsObject()
	default:
		if strings.HasSuffix(c.Event, ".delta") {
			c.OutputBytes = int64(len(gjson.GetBytes(c.Data, "delta").Raw))
		}
	}
	return s.pass(c)
}

// responsesFinish is the finish_reason that an answer's status stands for.
func responsesFinish(r gjson.Result) string {
	switch {
	case r.Get("status").Str == "incomplete" && r.Get("incomplete_details.reason").Str == "content_filter":
		return "content_filter"
	case r.Get("status").Str == "incomplete":
		return "length"
	case r.Get(`output.#(type%"*_call").type`).Exists():
		return "tool_calls"
	}
	return "stop"
}

// WholeNative reads an answer in the client's own dialect that came in one
// piece. Its bytes are passed on as they are.
func WholeNative(d Dialect, body []byte, requestID string) (Chunk, error) {
	bad := func(message string) error {
		return &UpstreamError{Kind: KindBadResponse, Code: "upstream_bad_response", Message: message, Billed: BilledUnknown}
	}
	if rawjson.TooDeep(body, maxAnswerDepth) || !gjson.ValidBytes(body) {
		return Chunk{}, bad("The upstream's answer is not valid JSON.")
	}
	root := gjson.ParseBytes(body)
	c := Chunk{Data: body, Whole: true, Head: &Head{RequestID: requestID}, OutputBytes: int64(len(body))}
	if e := root.Get("error"); e.IsObject() {
		if d == DialectMessages {
			return Chunk{}, anthropicError(e, 0)
		}
		return Chunk{}, inBandError([]byte(e.Raw), body)
	}
	switch d {
	case DialectMessages:
		if !root.Get("content").IsArray() {
			return Chunk{}, bad("The upstream's answer is not a message.")
		}
		c.Usage, c.Finish = messagesUsage(root.Get("usage")), chatFinish(root.Get("stop_reason").Str)
	default:
		if !root.Get("output").IsArray() {
			return Chunk{}, bad("The upstream's answer is not a response.")
		}
		c.Usage, c.Finish = responsesUsage(root), responsesFinish(root)
	}
	c.Malformed = c.Usage == nil && root.Get("usage").Exists()
	return c, nil
}

// WithoutForeignThoughts takes out of a Messages request the thinking blocks
// that Anthropic would refuse: those without a signature, and those that this
// router sealed for other models. Mostly there are none, and the request is
// returned as it is.
func (r *Request) WithoutForeignThoughts() *Request {
	if r.Dialect != DialectMessages || !bytes.Contains(r.Body, []byte(sealPrefix)) && !bytes.Contains(r.Body, []byte(`thinking"`)) {
		return r
	}
	messages := gjson.ParseBytes(r.Raw("messages"))
	var t rawjson.Writer
	t.Array()
	changed := false
	messages.ForEach(func(_, m gjson.Result) bool {
		raw := m.Raw
		if content := m.Get("content"); m.Get("role").Str == "assistant" && content.IsArray() {
			if kept, any := ownThoughts(content); any {
				changed = true
				if kept == "[]" {
					return true // a turn of nothing
				}
				i := content.Index - m.Index
				if i > 0 && i+len(content.Raw) <= len(raw) {
					raw = raw[:i] + kept + raw[i+len(content.Raw):]
				}
			}
		}
		t.Raw(raw)
		return true
	})
	t.EndArray()
	if !changed {
		return r
	}
	return r.With(map[string]string{"messages": string(t)})
}

// ownThoughts are the blocks without foreign thoughts; any says that there were
// some.
func ownThoughts(content gjson.Result) (kept string, any bool) {
	var t rawjson.Writer
	t.Array()
	content.ForEach(func(_, b gjson.Result) bool {
		switch b.Get("type").Str {
		case "thinking":
			if s := b.Get("signature").Str; s == "" || IsSealed(s) {
				any = true
				return true
			}
		case "redacted_thinking":
			if IsSealed(b.Get("data").Str) {
				any = true
				return true
			}
		}
		t.Raw(b.Raw)
		return true
	})
	t.EndArray()
	return string(t), any
}

// Failure is the event that ends a stream of the dialect in an error: clients
// cannot mistake it for an end. id and sequence are those of the answer so far.
func Failure(d Dialect, id, model, kind, code, message string, sequence int64) (event string, data []byte) {
	var t rawjson.Writer
	t.Object()
	switch d {
	case DialectMessages:
		t.StringMember("type", "error")
		t.OpenObject("error")
		t.StringMember("type", kind)
		t.StringMember("message", message)
		t.EndObject()
		t.EndObject()
		return "error", t
	case DialectResponses:
		t.StringMember("type", "response.failed")
		t.IntMember("sequence_number", sequence)
		t.OpenObject("response")
		t.StringMember("id", id)
		t.StringMember("object", "response")
		t.IntMember("created_at", 0)
		t.StringMember("status", "failed")
		t.StringMember("model", model)
		t.OpenObject("error")
		t.StringMember("code", code)
		t.StringMember("message", message)
		t.EndObject()
		t.RawMember("incomplete_details", "null")
		t.RawMember("output", "[]")
		t.RawMember("usage", "null")
		t = append(t, ',')
		t = append(t, responsesEcho(gjson.Result{})...)
		t.EndObject()
		// The SDKs raise an error for a member of that name, whatever the event.
		t.OpenObject("error")
		t.StringMember("type", kind)
		t.StringMember("code", code)
		t.StringMember("message", message)
		t.RawMember("param", "null")
		t.EndObject()
		t.EndObject()
		return "response.failed", t
	}
	return "", nil
}
