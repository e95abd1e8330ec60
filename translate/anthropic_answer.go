package translate

import (
	"cmp"
	"iter"
	"math"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// maxAnthropicDepth bounds the nesting of an answer before anything that
// recurses is let at it.
const maxAnthropicDepth = 512

const notAMessage = "The upstream's answer is not a message."

// FromAnthropic translates a whole answer.
func FromAnthropic(q *AnthropicRequest, answer []byte, head AnswerHead) (Chunk, error) {
	root, err := anthropicJSON(answer)
	if err != nil {
		return Chunk{}, err
	}
	if root.Get("type").Str == "error" {
		return Chunk{}, anthropicError(root.Get("error"), 0)
	}
	content := root.Get("content")
	if !content.IsArray() {
		return Chunk{}, badAnthropic(notAMessage)
	}
	a := wholeAnswer{names: q.names}
	content.ForEach(func(_, block gjson.Result) bool {
		for _, p := range anthropicPieces(block) {
			a.add(p)
		}
		return true
	})
	a.add(piece{kind: pieceRefusal, text: root.Get("stop_details.explanation").Str})
	var end anthropicEnding
	end.stop = root.Get("stop_reason").Str
	end.count(root.Get("usage"), true)
	if end.stop == "" && a.bytes == 0 {
		return Chunk{}, badAnthropic("The upstream's answer is empty.")
	}
	c := a.chunk(head, end.ending())
	c.Head = q.head(head)
	return c, nil
}

// anthropicPieces tells what a whole block says. Blocks of tools that the
// provider runs itself, and of kinds still unknown, say nothing to the client.
func anthropicPieces(block gjson.Result) []piece {
	switch block.Get("type").Str {
	case "text":
		return []piece{{kind: pieceText, text: block.Get("text").Str}}
	case "thinking":
		text, signature := block.Get("thinking").Str, block.Get("signature").Str
		pieces := []piece{{kind: pieceReasoning, text: text}}
		if signature != "" {
			pieces = append(pieces, piece{kind: pieceSigned, text: text, signature: signature})
		}
		return pieces
	case "redacted_thinking":
		return []piece{{kind: pieceRedacted, data: block.Get("data").Str}}
	case "tool_use":
		return []piece{
			{kind: pieceCall, id: block.Get("id").Str, name: block.Get("name").Str},
			{kind: pieceArguments, text: callInput(block)},
			{kind: pieceCallEnd},
		}
	}
	return nil
}

// callInput is the JSON text of a call's input, with its numbers as they came;
// "" for an empty one. Some servers send the object as text.
func callInput(block gjson.Result) string {
	input := block.Get("input")
	if input.Type == gjson.String {
		return input.Str
	}
	if !input.IsObject() || strings.TrimSpace(input.Raw[1:len(input.Raw)-1]) == "" {
		return ""
	}
	return input.Raw
}

// anthropicEnding collects how an answer ends.
type anthropicEnding struct {
	stop        string // stop_reason
	tier        string // service_tier, as OpenAI calls it
	input       int64  // tokens that no cache had to do with
	minutes     int64  // tokens written to a cache that lasts minutes
	usage       Usage
	hasInput    bool // the input's count has come
	hasOutput   bool // the output's final count has come
	cacheCounts bool
	lifetimes   bool // how long caches last has been told
}

// count takes in a usage object. A stream tells the input's counts at its
// beginning, with a first word on the output, and the output's running total
// at its end; what is left out keeps its value. Counts that cannot be are
// passed over.
func (e *anthropicEnding) count(usage gjson.Result, final bool) {
	u := &e.usage
	e.hasInput = setCount(&e.input, usage.Get("input_tokens")) || e.hasInput
	e.hasOutput = setCount(&u.OutputTokens, usage.Get("output_tokens")) && final || e.hasOutput
	e.cacheCounts = setCount(&u.CachedTokens, usage.Get("cache_read_input_tokens")) || e.cacheCounts
	e.cacheCounts = setCount(&u.CacheWriteTokens, usage.Get("cache_creation_input_tokens")) || e.cacheCounts
	e.lifetimes = setCount(&u.CacheWriteHourTokens, usage.Get("cache_creation.ephemeral_1h_input_tokens")) || e.lifetimes
	setCount(&e.minutes, usage.Get("cache_creation.ephemeral_5m_input_tokens"))
	// A stream may tell of more tokens at its end without saying how long they last.
	u.CacheTTLKnown = e.lifetimes && e.minutes+u.CacheWriteHourTokens == u.CacheWriteTokens
	setCount(&u.ReasoningTokens, usage.Get("output_tokens_details.thinking_tokens"))
	// Anthropic's input_tokens leaves out what the cache had to do with.
	u.InputTokens = e.input + u.CachedTokens + u.CacheWriteTokens
	u.ReasoningTokens = min(u.ReasoningTokens, u.OutputTokens)
	searches, speed := messagesExtras(usage)
	u.Searches, u.Tier = max(u.Searches, searches), cmp.Or(speed, u.Tier)
	switch usage.Get("service_tier").Str {
	case "standard":
		e.tier = "default"
	case "priority":
		e.tier = "priority"
	}
}

// setCount takes a count that makes sense, and reports whether it did.
func setCount(to *int64, v gjson.Result) bool {
	n, err := intValue(v, 0, math.MaxInt32)
	if err == nil {
		*to = n
	}
	return err == nil
}

// ending tells the end in OpenAI's words. A count that is not complete is as
// good as none.
func (e *anthropicEnding) ending() ending {
	end := ending{cacheCounts: e.cacheCounts, serviceTier: e.tier}
	if e.hasInput && e.hasOutput {
		u := e.usage
		end.usage = &u
	}
	switch e.stop {
	case "max_tokens", "model_context_window_exceeded":
		end.finish = "length"
	case "tool_use":
		end.finish = "tool_calls"
	case "refusal":
		end.finish = "content_filter"
	default: // end_turn, stop_sequence, pause_turn, and what is still unknown
		end.finish = "stop"
	}
	return end
}

func (q *AnthropicRequest) head(h AnswerHead) *Head {
	return &Head{RequestID: h.RequestID, Dropped: q.Dropped, Created: h.Created}
}

// FromAnthropicStream translates a streamed answer event by event. The first
// chunk comes when the first event has: an error before it leaves the caller
// free to ask another upstream. It ends with a chunk that says Done, or, when
// message_stop has not come, with an error.
func FromAnthropicStream(q *AnthropicRequest, events iter.Seq2[Event, error], head AnswerHead) Chunks {
	return func(yield func(Chunk, error) bool) {
		s := anthropicStream{q: q, head: head, w: newChunkWriter(q.names, head, q.request), yield: yield}
		for e, err := range events {
			if err == nil {
				err = s.event(e)
			}
			if err != nil {
				s.fail(err)
				return
			}
			if s.left || s.done {
				return
			}
		}
		s.fail(s.cut())
	}
}

// anthropicStream is what is known of a stream so far.
type anthropicStream struct {
	q    *AnthropicRequest
	head AnswerHead
	w    *chunkWriter
	end  anthropicEnding

	kind      string          // of the open block
	text      strings.Builder // of the open thinking block
	signature string          // of the open thinking block
	input     string          // of the open call, from its start event
	heard     bool            // the open call has had a delta

	spoke     bool // the client has been told something
	yield     func(Chunk, error) bool
	delivered int64 // bytes of output
	more      bool  // the next event is already here
	left      bool  // nobody listens any more
	done      bool
}

func (s *anthropicStream) emit(c Chunk) {
	if s.left {
		return
	}
	c.More = c.More || s.more
	s.delivered += c.OutputBytes
	s.left = !s.yield(c, nil)
}

// fail ends the answer with err. What the input cost is known since the
// beginning; of the output, until the reason for its end has come, only how
// many bytes there were: the count in message_start is not it.
func (s *anthropicStream) fail(err error) {
	if s.w.started && s.end.hasInput {
		u := s.end.usage
		if s.end.stop == "" || !s.end.hasOutput {
			u.OutputTokens = max(u.OutputTokens, s.delivered)
		}
		s.emit(Chunk{Usage: &u})
	}
	if !s.left {
		s.yield(Chunk{}, err)
	}
}

// event takes in one event and yields what it tells the client.
func (s *anthropicStream) event(e Event) error {
	if e.Comment {
		return nil
	}
	if e.Partial {
		return badAnthropic("The upstream sent an event that is too long.")
	}
	root, err := anthropicJSON(e.Data)
	if err != nil {
		if e.Cut {
			return s.cut()
		}
		return err
	}
	s.more = e.More
	kind := root.Get("type").Str
	if !s.w.started {
		return s.first(kind, root)
	}
	switch kind {
	case "content_block_start":
		s.closeBlock()
		s.openBlock(root.Get("content_block"))
	case "content_block_delta":
		s.delta(root.Get("delta"))
	case "content_block_stop":
		s.closeBlock()
	case "message_delta":
		if stop := root.Get("delta.stop_reason"); stop.Type == gjson.String {
			s.end.stop = stop.Str
		}
		s.write(piece{kind: pieceRefusal, text: root.Get("delta.stop_details.explanation").Str})
		s.end.count(root.Get("usage"), true)
	case "message_stop":
		s.closeBlock()
		return s.finish()
	case "ping":
		s.emit(Chunk{Comment: true, Data: []byte("ping")})
	case "error":
		return s.failure(root)
	}
	return nil
}

// first waits for the event that begins the answer; until then an error is no
// different from an error status, and nothing is told to the client.
func (s *anthropicStream) first(kind string, root gjson.Result) error {
	switch kind {
	case "error":
		return s.failure(root)
	case "message_start":
	case "content_block_start", "content_block_delta", "message_delta", "message_stop":
		return badAnthropic("The upstream's stream does not begin with message_start.")
	default:
		return nil
	}
	s.end.count(root.Get("message.usage"), false)
	c := s.w.start()
	c.Head = s.q.head(s.head)
	s.emit(c)
	return nil
}

func (s *anthropicStream) write(p piece) {
	if c, ok := s.w.write(p); ok {
		s.spoke = true
		s.emit(c)
	}
}

// openBlock begins a block. Most say nothing before their first delta, but
// some servers put all of a block into its start event.
func (s *anthropicStream) openBlock(block gjson.Result) {
	s.kind = block.Get("type").Str
	switch s.kind {
	case "text":
		s.write(piece{kind: pieceText, text: block.Get("text").Str})
	case "thinking":
		s.text.Reset()
		s.signature = block.Get("signature").Str
		s.think(block.Get("thinking").Str)
	case "redacted_thinking":
		s.write(piece{kind: pieceRedacted, data: block.Get("data").Str})
	case "tool_use":
		s.input, s.heard = callInput(block), false
		s.write(piece{kind: pieceCall, id: block.Get("id").Str, name: block.Get("name").Str})
	}
}

func (s *anthropicStream) think(text string) {
	s.text.WriteString(text)
	s.write(piece{kind: pieceReasoning, text: text})
}

func (s *anthropicStream) delta(delta gjson.Result) {
	kind := delta.Get("type").Str
	switch {
	case kind == "text_delta" && s.kind == "text":
		s.write(piece{kind: pieceText, text: delta.Get("text").Str})
	case kind == "thinking_delta" && s.kind == "thinking":
		s.think(delta.Get("thinking").Str)
	case kind == "signature_delta" && s.kind == "thinking":
		s.signature += delta.Get("signature").Str
	case kind == "input_json_delta" && s.kind == "tool_use":
		text := delta.Get("partial_json").Str
		s.heard = s.heard || text != ""
		s.write(piece{kind: pieceArguments, text: text})
	}
}

// closeBlock ends the open block, if there is one.
func (s *anthropicStream) closeBlock() {
	switch s.kind {
	case "thinking":
		if s.signature != "" {
			s.write(piece{kind: pieceSigned, text: s.text.String(), signature: s.signature})
		}
	case "tool_use":
		if !s.heard {
			s.write(piece{kind: pieceArguments, text: s.input})
		}
		s.write(piece{kind: pieceCallEnd})
	}
	s.kind = ""
}

// finish tells the finish reason and then the usage.
func (s *anthropicStream) finish() error {
	if s.end.stop == "" && !s.spoke {
		return badAnthropic("The upstream's answer is empty.")
	}
	s.done = true
	end := s.end.ending()
	if c, ok := s.w.rest(); ok {
		s.emit(c)
	}
	c := s.w.finish(end.finish)
	c.More = end.usage != nil
	s.emit(c)
	if end.usage != nil {
		s.emit(s.w.usage(end))
	}
	s.emit(Chunk{Done: true})
	return nil
}

func (s *anthropicStream) failure(root gjson.Result) error {
	err := anthropicError(root.Get("error"), 0)
	if s.w.started {
		err.Billed = BilledPartly
	}
	return err
}

// cut is the error of a stream that ended before message_stop.
func (s *anthropicStream) cut() error {
	if !s.w.started {
		return &UpstreamError{Kind: KindBadResponse, Code: "upstream_bad_response", Billed: BilledUnknown,
			Message: "The upstream sent an empty answer."}
	}
	return &UpstreamError{Kind: KindInterrupted, Code: "stream_interrupted", Billed: BilledPartly,
		Message: "The upstream's answer ended before it was complete."}
}

// AnthropicEvents tells a whole answer as the events of a stream, for servers
// that give one where a stream was asked for.
func AnthropicEvents(answer []byte) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		root, err := anthropicJSON(answer)
		if err != nil {
			yield(Event{}, err)
			return
		}
		tell := func(build func(t *rawjson.Writer)) bool {
			var t rawjson.Writer
			t.Object()
			build(&t)
			t.EndObject()
			return yield(Event{Data: t, More: true}, nil)
		}
		kind := func(name string) func(*rawjson.Writer) {
			return func(t *rawjson.Writer) { t.StringMember("type", name) }
		}
		content := root.Get("content")
		switch {
		case root.Get("type").Str == "error":
			yield(Event{Data: answer}, nil)
			return
		case !content.IsArray():
			yield(Event{}, badAnthropic(notAMessage))
			return
		case !tell(kind("message_start")):
			return
		}
		for _, block := range content.Array() {
			start := func(t *rawjson.Writer) {
				kind("content_block_start")(t)
				t.RawMember("content_block", block.Raw)
			}
			if !tell(start) || !tell(kind("content_block_stop")) {
				return
			}
		}
		ended := tell(func(t *rawjson.Writer) {
			kind("message_delta")(t)
			t.OpenObject("delta")
			t.StringMember("stop_reason", root.Get("stop_reason").Str)
			if details := root.Get("stop_details"); details.IsObject() {
				t.RawMember("stop_details", details.Raw)
			}
			t.EndObject()
			if usage := root.Get("usage"); usage.IsObject() {
				t.RawMember("usage", usage.Raw)
			}
		})
		if ended {
			tell(kind("message_stop"))
		}
	}
}

// anthropicJSON checks and opens one JSON object of theirs.
func anthropicJSON(data []byte) (gjson.Result, error) {
	if rawjson.TooDeep(data, maxAnthropicDepth) || !gjson.ValidBytes(data) {
		return gjson.Result{}, badAnthropic("The upstream's answer is not valid JSON.")
	}
	root := gjson.ParseBytes(data)
	if !root.IsObject() {
		return root, badAnthropic("The upstream's answer is not a JSON object.")
	}
	return root, nil
}

func badAnthropic(message string) *UpstreamError {
	return &UpstreamError{Kind: KindBadResponse, Code: "upstream_bad_response", Message: message, Billed: BilledUnknown}
}
