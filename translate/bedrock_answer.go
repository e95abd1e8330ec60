package translate

import (
	"iter"
	"math"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// BedrockEvent is one event of a ConverseStream.
type BedrockEvent struct {
	Type    string // messageStart, contentBlockDelta, …
	Payload []byte // JSON; valid until the next event is asked for
	More    bool   // the next event is already in memory
}

// FromBedrock reads the whole answer of a Converse call.
func FromBedrock(q *BedrockRequest, answer []byte, head AnswerHead) (Chunk, error) {
	root, err := readConverse(answer)
	if err != nil {
		return Chunk{}, err
	}
	a := wholeAnswer{names: q.names}
	readContentBlocks(root.Get("output.message.content"), a.add)
	a.add(piece{kind: pieceRefusal, text: refusalOf(root)})
	e := ending{usage: converseUsage(root), serviceTier: root.Get("serviceTier.type").Str}
	e.cacheCounts = hasCacheCounts(root.Get("usage"))
	if e.finish, err = converseFinish(root.Get("stopReason").Str, a.bytes > 0); err != nil {
		return Chunk{}, err
	}
	c := a.chunk(head, e)
	c.Head = &Head{RequestID: head.RequestID, Dropped: q.Dropped, Created: head.Created}
	return c, nil
}

// refusalOf is why the model refused, which Claude tells among its own fields.
func refusalOf(v gjson.Result) string {
	return v.Get("additionalModelResponseFields.stop_details.explanation").Str
}

func readConverse(answer []byte) (gjson.Result, error) {
	if rawjson.TooDeep(answer, 10*maxChatDepth) || !gjson.ValidBytes(answer) {
		return gjson.Result{}, badAnswer("The upstream's answer is not valid JSON.")
	}
	root := gjson.ParseBytes(answer)
	if !root.Get("output.message").IsObject() {
		e := badAnswer("The upstream's answer holds no message.")
		e.Billed = BilledNothing // it names an operation that AWS does not know, say
		return root, e
	}
	return root, nil
}

func badAnswer(message string) *UpstreamError {
	return &UpstreamError{Kind: KindBadResponse, Status: 200, Code: "invalid_upstream_response", Message: message, Billed: BilledUnknown}
}

// readContentBlocks gives the pieces of a whole answer's blocks. Kinds it does
// not know are passed over.
func readContentBlocks(content gjson.Result, add func(piece)) {
	content.ForEach(func(_, b gjson.Result) bool {
		b.ForEach(func(kind, v gjson.Result) bool {
			readContentBlock(kind.Str, v, add)
			return true
		})
		return true
	})
}

func readContentBlock(kind string, v gjson.Result, add func(piece)) {
	switch kind {
	case "text":
		add(piece{kind: pieceText, text: v.Str})
	case "citationsContent":
		v.Get("content").ForEach(func(_, e gjson.Result) bool {
			add(piece{kind: pieceText, text: e.Get("text").Str})
			return true
		})
	case "reasoningContent":
		if data := v.Get("redactedContent"); data.Type == gjson.String {
			add(piece{kind: pieceRedacted, data: data.Str})
			return
		}
		text, signature := v.Get("reasoningText.text").Str, v.Get("reasoningText.signature").Str
		add(piece{kind: pieceReasoning, text: text})
		if signature != "" {
			add(piece{kind: pieceSigned, text: text, signature: signature})
		}
	case "toolUse":
		if isServerTool(v) {
			return
		}
		add(piece{kind: pieceCall, id: v.Get("toolUseId").Str, name: v.Get("name").Str})
		if input := v.Get("input"); input.Type == gjson.String { // the object as text
			add(piece{kind: pieceArguments, text: input.Str})
		} else if input.Exists() && input.Type != gjson.Null {
			add(piece{kind: pieceArguments, text: input.Raw})
		}
		add(piece{kind: pieceCallEnd})
	}
}

// isServerTool tells calls that the provider runs itself.
func isServerTool(v gjson.Result) bool { return v.Get("type").Str == "server_tool_use" }

// converseFinish maps a stopReason to a finish_reason; spoke says whether the
// model has said anything.
func converseFinish(reason string, spoke bool) (string, error) {
	switch reason {
	case "end_turn", "stop_sequence":
		return "stop", nil
	case "tool_use":
		return "tool_calls", nil
	case "max_tokens", "model_context_window_exceeded":
		return "length", nil
	case "guardrail_intervened", "content_filtered", "refusal":
		return "content_filter", nil
	case "malformed_model_output", "malformed_tool_use":
		return "", &UpstreamError{Kind: KindServer, Status: 200, Code: "malformed_model_output", Message: "The model wrote something that cannot be read.", Billed: BilledPartly}
	}
	if !spoke {
		return "", &UpstreamError{Kind: KindBadResponse, Status: 200, Code: "invalid_upstream_response", Message: "The model ended without an answer.", Billed: BilledPartly}
	}
	return "stop", nil
}

// converseUsage reads token counts. Bedrock leaves cached tokens out of
// inputTokens. Counts that cannot be are as good as none: nil.
func converseUsage(answer gjson.Result) *Usage {
	v := answer.Get("usage")
	if !v.IsObject() {
		return nil
	}
	var u Usage
	var input int64
	for _, f := range []struct {
		name string
		to   *int64
	}{
		{"inputTokens", &input}, {"outputTokens", &u.OutputTokens},
		{"cacheReadInputTokens", &u.CachedTokens}, {"cacheWriteInputTokens", &u.CacheWriteTokens},
	} {
		n := v.Get(f.name)
		if !n.Exists() || n.Type == gjson.Null {
			if f.to == &input || f.to == &u.OutputTokens {
				return nil
			}
			continue
		}
		count, err := intValue(n, 0, math.MaxInt32)
		if err != nil {
			return nil
		}
		*f.to = count
	}
	u.InputTokens = input + u.CachedTokens + u.CacheWriteTokens
	u.Tier = tierName(answer.Get("serviceTier.type").Str)
	u.CacheWriteHourTokens, u.CacheTTLKnown = cacheDetails(v.Get("cacheDetails"), u.CacheWriteTokens)
	return &u
}

// cacheDetails tells how many of the tokens written to a cache last an hour.
// Details that do not tell of each token are not to be relied on.
func cacheDetails(v gjson.Result, written int64) (hour int64, known bool) {
	for _, d := range v.Array() {
		n, err := intValue(d.Get("inputTokens"), 0, math.MaxInt32)
		if err != nil {
			return hour, false
		}
		if d.Get("ttl").Str != "5m" {
			hour += n
		}
		written -= n
		known = true
	}
	return hour, known && written == 0
}

func hasCacheCounts(v gjson.Result) bool {
	return v.Get("cacheReadInputTokens").Type == gjson.Number || v.Get("cacheWriteInputTokens").Type == gjson.Number
}

// FromBedrockStream reads the events of a ConverseStream call. The first chunk
// comes when the first event has: an error before it leaves the caller free to
// ask another upstream. A stream without messageStop is an error, however
// cleanly it ends.
func FromBedrockStream(q *BedrockRequest, events iter.Seq2[BedrockEvent, error], head AnswerHead) Chunks {
	return func(yield func(Chunk, error) bool) {
		s := converseStream{w: newChunkWriter(q.names, head, &q.asked), tool: -1}
		first := &Head{RequestID: head.RequestID, Dropped: q.Dropped, Created: head.Created}
		for event, err := range events {
			if err == nil {
				err = s.read(event)
			}
			if err != nil && s.stopped { // all has been said; only the usage is lost
				return
			}
			if err != nil {
				yield(Chunk{}, afterEvents(err, s.events > 0))
				return
			}
			for i, c := range s.chunks {
				c.More = event.More || i < len(s.chunks)-1
				c.Head, first = first, nil
				if !yield(c, nil) {
					return
				}
			}
		}
		if s.stopped {
			return
		}
		yield(Chunk{}, cutShort(s.events > 0))
	}
}

// afterEvents says that a call which has sent events is billed at least in part.
func afterEvents(err error, events bool) error {
	if up, ok := err.(*UpstreamError); ok && events && up.Billed == BilledNothing {
		up.Billed = BilledPartly
	}
	return err
}

func cutShort(events bool) error {
	if !events {
		return badAnswer("The upstream's answer is empty.")
	}
	return &UpstreamError{Kind: KindInterrupted, Status: 200, Code: "stream_interrupted", Message: "The upstream's answer ended before it was complete.", Billed: BilledPartly}
}

// converseStream is what has been read of a stream.
type converseStream struct {
	w       *chunkWriter
	chunks  []Chunk // of the newest event
	data    []byte  // what their Data points into
	events  int
	stopped bool
	spoke   bool

	tool      int64 // contentBlockIndex of the open call, -1 when none
	skip      bool  // it is the provider's own
	thought   strings.Builder
	signature strings.Builder
}

// read turns one event into s.chunks. Events and blocks of kinds it does not
// know are passed over.
func (s *converseStream) read(e BedrockEvent) error {
	s.events++
	s.chunks, s.data = s.chunks[:0], s.data[:0]
	if s.stopped && e.Type != "metadata" {
		return nil
	}
	if rawjson.TooDeep(e.Payload, 10*maxChatDepth) || !gjson.ValidBytes(e.Payload) {
		return &UpstreamError{Kind: KindBadResponse, Status: 200, Code: "upstream_bad_chunk", Message: "The upstream sent an event that is not valid JSON.", Billed: BilledPartly}
	}
	v := gjson.ParseBytes(e.Payload)
	switch e.Type {
	case "messageStart":
		s.begin()
	case "contentBlockStart":
		s.start(v)
	case "contentBlockDelta":
		return s.delta(v)
	case "contentBlockStop":
		s.endBlock()
	case "messageStop":
		return s.stop(v)
	case "metadata":
		s.metadata(v)
	}
	return nil
}

// begin sends the role, once, whatever comes first.
func (s *converseStream) begin() {
	if !s.w.started {
		s.keep(s.w.start())
	}
}

// keep sets a chunk aside; its bytes move out of the writer's buffer, which
// the next chunk of the same event uses again.
func (s *converseStream) keep(c Chunk) {
	if len(c.Data) > 0 {
		from := len(s.data)
		s.data = append(s.data, c.Data...)
		c.Data = s.data[from:len(s.data):len(s.data)]
	}
	s.chunks = append(s.chunks, c)
}

func (s *converseStream) add(p piece) {
	s.begin()
	if c, ok := s.w.write(p); ok {
		s.spoke = true
		s.keep(c)
	}
}

func (s *converseStream) start(v gjson.Result) {
	call := v.Get("start.toolUse")
	if !call.IsObject() {
		return
	}
	s.endBlock()
	s.tool, s.skip = v.Get("contentBlockIndex").Int(), isServerTool(call)
	if !s.skip {
		s.add(piece{kind: pieceCall, id: call.Get("toolUseId").Str, name: call.Get("name").Str})
	}
}

func (s *converseStream) delta(v gjson.Result) (err error) {
	index := v.Get("contentBlockIndex").Int()
	v.Get("delta").ForEach(func(kind, d gjson.Result) bool {
		switch kind.Str {
		case "text":
			s.add(piece{kind: pieceText, text: d.Str})
		case "toolUse":
			if index != s.tool {
				err = &UpstreamError{Kind: KindBadResponse, Status: 200, Code: "upstream_bad_chunk", Message: "The upstream sent input for a call that is not open.", Billed: BilledPartly}
			} else if !s.skip {
				s.add(piece{kind: pieceArguments, text: inputDelta(d.Get("input"))})
			}
		case "reasoningContent":
			s.reasoning(d)
		}
		return err == nil
	})
	return err
}

// inputDelta is a piece of a call's input: text, as AWS has it, or the object at
// once.
func inputDelta(v gjson.Result) string {
	if v.IsObject() {
		return v.Raw
	}
	return v.Str
}

func (s *converseStream) reasoning(v gjson.Result) {
	if text := v.Get("text").Str; text != "" {
		s.thought.WriteString(text)
		s.add(piece{kind: pieceReasoning, text: text})
	}
	s.signature.WriteString(v.Get("signature").Str)
	if data := v.Get("redactedContent").Str; data != "" {
		s.add(piece{kind: pieceRedacted, data: data})
	}
}

// endBlock completes the open block: a signed thought, or a call.
func (s *converseStream) endBlock() {
	if s.signature.Len() > 0 {
		s.add(piece{kind: pieceSigned, text: s.thought.String(), signature: s.signature.String()})
	}
	s.thought.Reset()
	s.signature.Reset()
	if s.tool >= 0 && !s.skip {
		s.add(piece{kind: pieceCallEnd})
	}
	s.tool, s.skip = -1, false
}

func (s *converseStream) stop(v gjson.Result) error {
	s.begin()
	s.endBlock()
	finish, err := converseFinish(v.Get("stopReason").Str, s.spoke)
	if err != nil {
		return err
	}
	s.stopped = true
	if c, ok := s.w.write(piece{kind: pieceRefusal, text: refusalOf(v)}); ok {
		s.keep(c)
	}
	if c, ok := s.w.rest(); ok {
		s.keep(c)
	}
	s.keep(s.w.finish(finish))
	return nil
}

func (s *converseStream) metadata(v gjson.Result) {
	usage := v.Get("usage")
	e := ending{usage: converseUsage(v), cacheCounts: hasCacheCounts(usage), serviceTier: v.Get("serviceTier.type").Str}
	if s.stopped {
		defer func() { s.chunks = append(s.chunks, Chunk{Done: true}) }()
	}
	if e.usage == nil {
		return
	}
	s.keep(s.w.usage(e))
}

// WholeEvents tells a whole Converse answer as the events of a stream, for
// models that cannot stream what they are asked for.
func WholeEvents(answer []byte) iter.Seq2[BedrockEvent, error] {
	return func(yield func(BedrockEvent, error) bool) {
		root, err := readConverse(answer)
		if err != nil {
			yield(BedrockEvent{}, err)
			return
		}
		if !yield(BedrockEvent{Type: "messageStart", Payload: []byte(`{"role":"assistant"}`), More: true}, nil) {
			return
		}
		index := int64(0)
		for _, b := range root.Get("output.message.content").Array() {
			for _, e := range blockEvents(b, index) {
				if !yield(e, nil) {
					return
				}
			}
			index++
		}
		var stop, meta rawjson.Writer
		stop.Object()
		stop.StringMember("stopReason", root.Get("stopReason").Str)
		if more := root.Get("additionalModelResponseFields"); more.IsObject() {
			stop.RawMember("additionalModelResponseFields", more.Raw)
		}
		stop.EndObject()
		if !yield(BedrockEvent{Type: "messageStop", Payload: stop, More: true}, nil) {
			return
		}
		meta.Object()
		for _, name := range []string{"usage", "serviceTier"} {
			if v := root.Get(name); v.Exists() {
				meta.RawMember(name, v.Raw)
			}
		}
		meta.EndObject()
		yield(BedrockEvent{Type: "metadata", Payload: meta}, nil)
	}
}

// blockEvents tells one content block as start, deltas and stop.
func blockEvents(b gjson.Result, index int64) (events []BedrockEvent) {
	event := func(kind string, fill func(*rawjson.Writer)) {
		var t rawjson.Writer
		t.Object()
		t.IntMember("contentBlockIndex", index)
		fill(&t)
		t.EndObject()
		events = append(events, BedrockEvent{Type: kind, Payload: t, More: true})
	}
	delta := func(member, raw string) {
		event("contentBlockDelta", func(t *rawjson.Writer) {
			t.OpenObject("delta")
			t.RawMember(member, raw)
			t.EndObject()
		})
	}
	readContentBlocks(gjson.Parse("["+b.Raw+"]"), func(p piece) {
		var t rawjson.Writer
		t.Object()
		switch p.kind {
		case pieceText:
			delta("text", string(rawjson.AppendString(nil, p.text)))
			return
		case pieceReasoning:
			t.StringMember("text", p.text)
		case pieceSigned:
			t.StringMember("signature", p.signature)
		case pieceRedacted:
			t.StringMember("redactedContent", p.data)
		case pieceArguments:
			t.StringMember("input", p.text)
		case pieceCall:
			event("contentBlockStart", func(t *rawjson.Writer) {
				t.OpenObject("start")
				t.OpenObject("toolUse")
				t.StringMember("toolUseId", p.id)
				t.StringMember("name", p.name)
				t.EndObject()
				t.EndObject()
			})
			return
		case pieceCallEnd:
			return
		}
		t.EndObject()
		if p.kind == pieceArguments {
			delta("toolUse", string(t))
		} else {
			delta("reasoningContent", string(t))
		}
	})
	event("contentBlockStop", func(*rawjson.Writer) {})
	return events
}
