package translate

import (
	"cmp"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// AnswerHead is what an answer carries beside what the model said.
type AnswerHead struct {
	ID        string // "chatcmpl-…", the same in every chunk
	Model     string // as the client is to see it
	Created   int64  // unix seconds
	RequestID string // the provider's id of the call
}

// A dialect tells an answer as pieces, whether it comes whole or as a stream;
// what OpenAI's JSON looks like is known only here.

type pieceKind int

const (
	pieceText      pieceKind = iota
	pieceReasoning           // text of unsigned, or not yet signed, reasoning
	pieceRefusal             // text with which the model refuses, or why it does not answer
	pieceSigned              // a finished block of reasoning: text again, and signature
	pieceRedacted            // data
	pieceCall                // a call begins: id, name
	pieceArguments           // text of the call's input
	pieceCallEnd
)

// piece is a part of an answer.
type piece struct {
	kind      pieceKind
	text      string
	id, name  string // of a call; the name is the provider's
	signature string
	data      string // base64
	place     place  // of pieceSigned and pieceRedacted, set by what writes them
}

// place says what the client has been given before a block of thoughts, so that
// the block finds its place again when the client gives it back: how many calls,
// and how many bytes of text.
type place struct{ calls, text int64 }

// ending is how an answer ends.
type ending struct {
	finish      string // finish_reason, if the calls do not say otherwise
	usage       *Usage // nil when not reported
	cacheCounts bool   // usage has counts of cached tokens
	serviceTier string
}

// callKind is what becomes of a model's call.
type callKind int

const (
	callNone   callKind = iota
	callTool            // the client's
	callCustom          // the client's, with free text for input
	callJSON            // ours: its input is the answer's text
	callSilent          // nobody may hear of it: ours, or one too many
)

// kindOf says what becomes of a call, given how many the client has seen and
// whether our JSON tool has been called: two of its inputs are no JSON.
func (n *names) kindOf(provider string, calls int, answered bool) callKind {
	switch {
	case provider == n.jsonTool && provider != "" && answered:
		return callSilent
	case provider == n.jsonTool && provider != "":
		return callJSON
	case provider == n.silent && provider != "", n.mute:
		return callSilent
	case n.single && calls > 0:
		return callSilent
	case n.custom[n.toClient(provider)]:
		return callCustom
	}
	return callTool
}

// finishReason makes finish agree with the calls the client gets to see.
func (n *names) finishReason(finish string, calls int) string {
	switch {
	case finish != "stop" && finish != "tool_calls":
		return finish
	case calls == 0:
		return "stop"
	case n.legacy:
		return "function_call"
	}
	return "tool_calls"
}

// chunkWriter writes the chunks of a streamed answer.
type chunkWriter struct {
	names *names
	head  AnswerHead
	// nullUsage puts "usage":null into every chunk, as OpenAI does when the
	// usage was asked for; giveUsage sends the usage at the end.
	nullUsage, giveUsage bool

	prefix   []byte
	buf      rawjson.Writer
	started  bool
	calls    int  // calls the client has seen
	answered bool // our JSON tool has been called
	open     callKind
	said     bool            // the open call has had arguments
	custom   strings.Builder // input of the open custom call
	texts    int64           // bytes of text the client has been given
	keys     keyRenamer      // of the open call's input
	prose    *prose          // nil unless text may stand for our JSON tool's input
}

func newChunkWriter(n *names, head AnswerHead, r *Request) *chunkWriter {
	w := &chunkWriter{names: n, head: head, nullUsage: r.IncludeUsage, giveUsage: r.IncludeUsage || r.IncludeCost}
	w.keys.names, w.prose = n.fromProvider, n.newProse()
	var t rawjson.Writer
	t.Object()
	t.StringMember("id", head.ID)
	t.StringMember("object", "chat.completion.chunk")
	t.IntMember("created", head.Created)
	t.StringMember("model", head.Model)
	w.prefix = t
	return w
}

// begin starts a chunk up to its delta, end closes it.
func (w *chunkWriter) begin() *rawjson.Writer {
	w.buf = append(w.buf[:0], w.prefix...)
	t := &w.buf
	t.OpenArray("choices")
	t.Object()
	t.IntMember("index", 0)
	t.OpenObject("delta")
	return t
}

func (w *chunkWriter) end(finish string) Chunk {
	t := &w.buf
	t.EndObject()
	t.Key("finish_reason")
	if finish == "" {
		t.Raw("null")
	} else {
		t.String(finish)
	}
	t.EndObject()
	t.EndArray()
	if w.nullUsage {
		t.RawMember("usage", "null")
	}
	t.EndObject()
	return Chunk{Data: *t, Finish: finish}
}

// start is the first chunk: the role.
func (w *chunkWriter) start() Chunk {
	w.started = true
	t := w.begin()
	t.StringMember("role", "assistant")
	t.StringMember("content", "")
	return w.end("")
}

// write returns the chunk that tells p, and false when the client sees nothing of it.
func (w *chunkWriter) write(p piece) (Chunk, bool) {
	switch p.kind {
	case pieceText:
		if w.prose != nil {
			c, ok := w.text("content", w.prose.add(p.text))
			c.OutputBytes = int64(len(p.text))
			return c, ok || p.text != ""
		}
		return w.text("content", p.text)
	case pieceReasoning:
		return w.text("reasoning_content", p.text)
	case pieceRefusal:
		return w.text("refusal", p.text)
	case pieceSigned, pieceRedacted:
		p.place = place{calls: int64(w.calls), text: w.texts}
		t := w.begin()
		t.OpenArray("thinking_blocks")
		writeThinkingBlock(t, p)
		t.EndArray()
		c := w.end("")
		c.OutputBytes = int64(len(p.signature) + len(p.data))
		return c, true
	case pieceCall:
		return w.callStart(p)
	case pieceArguments:
		return w.arguments(p.text)
	case pieceCallEnd:
		return w.callEnd()
	}
	return Chunk{}, false
}

func (w *chunkWriter) text(member, s string) (Chunk, bool) {
	if s == "" {
		return Chunk{}, false
	}
	if member == "content" {
		w.texts += int64(len(s))
	}
	w.begin().StringMember(member, s)
	c := w.end("")
	c.OutputBytes = int64(len(s))
	return c, true
}

func writeThinkingBlock(t *rawjson.Writer, p piece) {
	t.Object()
	if p.kind == pieceRedacted {
		t.StringMember("type", "redacted_thinking")
		t.StringMember("data", p.data)
	} else {
		t.StringMember("type", "thinking")
		t.StringMember("thinking", p.text)
		t.StringMember("signature", p.signature)
	}
	if p.place.calls > 0 {
		t.IntMember("after_calls", p.place.calls)
	}
	if p.place.text > 0 {
		t.IntMember("after_text", p.place.text)
	}
	t.EndObject()
}

func (w *chunkWriter) callStart(p piece) (Chunk, bool) {
	w.open, w.said = w.names.kindOf(p.name, w.calls, w.answered), false
	if w.open == callJSON && w.prose != nil && w.prose.spoken {
		w.open = callSilent // the answer has been written already
	}
	w.answered = w.answered || w.open == callJSON
	w.custom.Reset()
	if w.open == callJSON || w.open == callSilent {
		return Chunk{}, false
	}
	w.calls++
	name := w.names.toClient(p.name)
	t := w.begin()
	if w.names.legacy {
		t.OpenObject("function_call")
		t.StringMember("name", name)
		t.StringMember("arguments", "")
		t.EndObject()
	} else {
		kind, input := "function", "arguments"
		if w.open == callCustom {
			kind, input = "custom", "input"
		}
		openCall(t, w.calls-1)
		t.StringMember("id", p.id)
		t.StringMember("type", kind)
		t.OpenObject(kind)
		t.StringMember("name", name)
		t.StringMember(input, "")
		closeCall(t)
	}
	c := w.end("")
	c.OutputBytes = int64(len(p.name))
	return c, true
}

// openCall and closeCall are what stands around one element of tool_calls.
func openCall(t *rawjson.Writer, index int) {
	t.OpenArray("tool_calls")
	t.Object()
	t.IntMember("index", int64(index))
}

func closeCall(t *rawjson.Writer) {
	t.EndObject()
	t.EndObject()
	t.EndArray()
}

func (w *chunkWriter) arguments(s string) (Chunk, bool) {
	if s == "" {
		return Chunk{}, false
	}
	w.said = true
	bytes := int64(len(s))
	if w.keys.names != nil && w.open != callSilent {
		if s = string(w.keys.add(nil, s)); s == "" {
			return Chunk{OutputBytes: bytes}, true
		}
	}
	switch w.open {
	case callJSON:
		return w.text("content", s)
	case callCustom:
		w.custom.WriteString(s)
		return Chunk{OutputBytes: int64(len(s))}, true
	case callTool:
		return w.argumentsChunk("function", "arguments", s), true
	}
	return Chunk{OutputBytes: int64(len(s))}, true
}

func (w *chunkWriter) argumentsChunk(kind, member, s string) Chunk {
	t := w.begin()
	if w.names.legacy {
		t.OpenObject("function_call")
		t.StringMember(member, s)
		t.EndObject()
	} else {
		openCall(t, w.calls-1)
		t.OpenObject(kind)
		t.StringMember(member, s)
		closeCall(t)
	}
	c := w.end("")
	c.OutputBytes = int64(len(s))
	return c
}

// callEnd completes a call: one without arguments gets an empty object, since
// clients parse what they have collected, and a custom one its text.
func (w *chunkWriter) callEnd() (Chunk, bool) {
	kind, said := w.open, w.said
	w.open = callNone
	rest := string(w.keys.end(nil))
	switch {
	case kind == callJSON && rest != "":
		return w.text("content", rest)
	case kind == callTool && rest != "":
		return w.argumentsChunk("function", "arguments", rest), true
	case kind == callCustom:
		c := w.argumentsChunk("custom", "input", customInput(w.custom.String()))
		c.OutputBytes = 0 // counted as it came
		return c, true
	case kind == callTool && !said:
		return w.argumentsChunk("function", "arguments", "{}"), true
	case kind == callJSON && !said:
		return w.text("content", "{}")
	}
	return Chunk{}, false
}

// customInput takes the text out of the object that carries it.
func customInput(object string) string {
	if !gjson.Valid(object) {
		return object
	}
	if v := gjson.Get(object, "input"); v.Type == gjson.String {
		return v.Str
	}
	return object
}

// rest is the text that was held back until the answer's end.
func (w *chunkWriter) rest() (Chunk, bool) {
	if w.prose == nil {
		return Chunk{}, false
	}
	c, ok := w.text("content", w.prose.end(w.answered))
	c.OutputBytes = 0 // counted as it came
	return c, ok
}

// finish is the last chunk but the usage.
func (w *chunkWriter) finish(reason string) Chunk {
	w.begin()
	return w.end(w.names.finishReason(reason, w.calls))
}

// usage is the usage chunk; its Data is empty unless the client wants it.
func (w *chunkWriter) usage(e ending) Chunk {
	if !w.giveUsage {
		return Chunk{Usage: e.usage}
	}
	w.buf = append(w.buf[:0], w.prefix...)
	t := &w.buf
	t.RawMember("choices", "[]")
	writeServiceTier(t, e)
	writeUsage(t, e)
	t.EndObject()
	return Chunk{Data: *t, Usage: e.usage}
}

func writeServiceTier(t *rawjson.Writer, e ending) {
	switch e.serviceTier {
	case "":
	case "reserved":
		t.StringMember("service_tier", "scale")
	default:
		t.StringMember("service_tier", e.serviceTier)
	}
}

func writeUsage(t *rawjson.Writer, e ending) {
	u := e.usage
	t.OpenObject("usage")
	t.IntMember("prompt_tokens", u.InputTokens)
	t.IntMember("completion_tokens", u.OutputTokens)
	t.IntMember("total_tokens", u.InputTokens+u.OutputTokens)
	if e.cacheCounts {
		t.OpenObject("prompt_tokens_details")
		t.IntMember("cached_tokens", u.CachedTokens)
		t.IntMember("cache_write_tokens", u.CacheWriteTokens)
		t.EndObject()
	}
	if u.ReasoningTokens > 0 {
		t.OpenObject("completion_tokens_details")
		t.IntMember("reasoning_tokens", u.ReasoningTokens)
		t.EndObject()
	}
	t.EndObject()
}

// wholeAnswer collects pieces into one chat.completion.
type wholeAnswer struct {
	names              *names
	content, reasoning strings.Builder
	blocks             []piece
	calls              []wholeCall
	answered           bool   // our JSON tool has been called
	json               string // its input
	open               callKind
	said               bool // the open call has had arguments
	bytes              int64
	refusal            string // why the model would not answer
}

type wholeCall struct {
	id, name, arguments string
	custom              bool
}

func (a *wholeAnswer) add(p piece) {
	switch p.kind {
	case pieceText:
		a.content.WriteString(p.text)
	case pieceReasoning:
		a.reasoning.WriteString(p.text)
	case pieceRefusal:
		a.refusal += p.text
	case pieceSigned, pieceRedacted:
		p.place = place{calls: int64(len(a.calls)), text: int64(a.content.Len())}
		a.blocks = append(a.blocks, p)
	case pieceCall:
		if a.names.jsonTool != "" && p.name == a.names.jsonTool && a.names.unforced && !a.answered {
			a.content.Reset() // words around the answer
		}
		a.open, a.said = a.names.kindOf(p.name, len(a.calls), a.answered), false
		a.answered = a.answered || a.open == callJSON
		if a.open == callTool || a.open == callCustom {
			a.calls = append(a.calls, wholeCall{id: p.id, name: a.names.toClient(p.name), custom: a.open == callCustom})
		}
	case pieceArguments:
		a.addArguments(p.text)
	case pieceCallEnd:
		a.endCall()
	}
	if p.kind != pieceSigned {
		a.bytes += int64(len(p.text))
	}
	a.bytes += int64(len(p.name) + len(p.signature) + len(p.data))
}

func (a *wholeAnswer) addArguments(text string) {
	a.said = a.said || text != ""
	switch a.open {
	case callJSON:
		a.json += text
	case callTool, callCustom:
		a.calls[len(a.calls)-1].arguments += text
	}
}

func (a *wholeAnswer) endCall() {
	if a.open == callTool || a.open == callCustom {
		c := &a.calls[len(a.calls)-1]
		c.arguments = a.names.clientKeys(c.arguments)
		switch {
		case c.custom:
			c.arguments = customInput(c.arguments)
		case c.arguments == "":
			c.arguments = "{}"
		}
	}
	if a.open == callJSON {
		a.content.WriteString(a.names.clientKeys(cmp.Or(a.json, "{}")))
	}
	a.open = callNone
}

// chunk writes the chat.completion.
func (a *wholeAnswer) chunk(head AnswerHead, e ending) Chunk {
	finish := a.names.finishReason(e.finish, len(a.calls))
	if p := a.names.newProse(); p != nil && !a.answered {
		text := p.add(a.content.String()) + p.end(false)
		a.content.Reset()
		a.content.WriteString(text)
	}
	var t rawjson.Writer
	t.Object()
	t.StringMember("id", head.ID)
	t.StringMember("object", "chat.completion")
	t.IntMember("created", head.Created)
	t.StringMember("model", head.Model)
	t.OpenArray("choices")
	t.Object()
	t.IntMember("index", 0)
	t.OpenObject("message")
	a.message(&t)
	t.EndObject()
	t.RawMember("logprobs", "null")
	t.StringMember("finish_reason", finish)
	t.EndObject()
	t.EndArray()
	writeServiceTier(&t, e)
	if e.usage != nil {
		writeUsage(&t, e)
	}
	t.EndObject()
	return Chunk{Data: t, Whole: true, Finish: finish, Usage: e.usage, OutputBytes: a.bytes}
}

func (a *wholeAnswer) message(t *rawjson.Writer) {
	t.StringMember("role", "assistant")
	t.Key("content")
	if a.content.Len() == 0 && len(a.calls) > 0 {
		t.Raw("null")
	} else {
		t.String(a.content.String())
	}
	if a.refusal != "" {
		t.StringMember("refusal", a.refusal)
	} else {
		t.RawMember("refusal", "null")
	}
	if a.reasoning.Len() > 0 {
		t.StringMember("reasoning_content", a.reasoning.String())
	}
	if len(a.blocks) > 0 {
		t.OpenArray("thinking_blocks")
		for _, b := range a.blocks {
			writeThinkingBlock(t, b)
		}
		t.EndArray()
	}
	if len(a.calls) == 0 {
		return
	}
	if a.names.legacy {
		t.OpenObject("function_call")
		t.StringMember("name", a.calls[0].name)
		t.StringMember("arguments", a.calls[0].arguments)
		t.EndObject()
		return
	}
	t.OpenArray("tool_calls")
	for _, c := range a.calls {
		writeToolCall(t, c)
	}
	t.EndArray()
}

func writeToolCall(t *rawjson.Writer, c wholeCall) {
	kind, input := "function", "arguments"
	if c.custom {
		kind, input = "custom", "input"
	}
	t.Object()
	t.StringMember("id", c.id)
	t.StringMember("type", kind)
	t.OpenObject(kind)
	t.StringMember("name", c.name)
	t.StringMember(input, c.arguments)
	t.EndObject()
	t.EndObject()
}

// clientKeys puts the client's own keys back into a call's input.
func (n *names) clientKeys(input string) string {
	if n.fromProvider == nil {
		return input
	}
	r := keyRenamer{names: n.fromProvider}
	return string(r.end(r.add(nil, input)))
}

// prose is the text of a model that was asked for JSON and could not be made to
// give it by a call. JSON passes through as it comes, without a fence around it;
// other text is held back: a call may follow that is the answer.
type prose struct {
	held   strings.Builder
	spoken bool // the text is JSON, and is being passed on
}

// newProse is nil where text needs no such care.
func (n *names) newProse() *prose {
	if n.jsonTool == "" || !n.unforced {
		return nil
	}
	return &prose{}
}

// add takes in text and returns what can be passed on.
func (p *prose) add(text string) string {
	p.held.WriteString(text)
	all := p.held.String()
	if !p.spoken {
		start := strings.TrimLeft(all, " \t\r\n")
		if fence, rest, whole := strings.Cut(start, "\n"); strings.HasPrefix(start, "```") && whole && len(fence) < 16 {
			start = strings.TrimLeft(rest, " \t\r\n")
		}
		if start == "" || start[0] != '{' && start[0] != '[' {
			return ""
		}
		p.spoken, all = true, start
	}
	keep := len(strings.TrimRight(all, "` \t\r\n")) // the fence may end here
	p.held.Reset()
	p.held.WriteString(all[keep:])
	return all[:keep]
}

// end returns what is still held back; answered says that a call has told it
// all.
func (p *prose) end(answered bool) string {
	rest := p.held.String()
	p.held.Reset()
	if answered || p.spoken {
		return ""
	}
	return rest
}
