package translate

import (
	"github.com/inference-router/inference-router/internal/rawjson"

	"iter"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// ResponsesOptions say how to put chat requests to a model behind the Responses
// API.
type ResponsesOptions struct {
	Options
	Seal   *Seal  // for reasoning that a later turn carries back; nil carries none
	Family string // whose reasoning it is: see ReasoningFamily
}

// ResponsesRequest is a chat request in the words of the Responses API, and
// what it takes to understand the answer.
type ResponsesRequest struct {
	Body    []byte
	Dropped []string // request fields that had to be dropped, in the request's order
	Stream  bool

	names   *names
	request *Request
	o       ResponsesOptions
}

// ToResponses writes the Responses call for a chat request. It fails with
// *InvalidError when the request cannot be put to the API.
func ToResponses(r *Request, o ResponsesOptions) (*ResponsesRequest, error) {
	root := gjson.ParseBytes(r.Body)
	w := chatToResponses{o: o, custom: map[string]bool{}, customIDs: map[string]bool{}}
	w.t = make(rawjson.Writer, 0, len(r.Body)+256)
	w.t.Object()
	for _, e := range root.Get("tools").Array() {
		if e.Get("type").Str == "custom" {
			w.custom[e.Get("custom.name").Str] = true
		}
	}
	var err error
	root.ForEach(func(k, v gjson.Result) bool {
		if v.Type != gjson.Null {
			err = within(k.Str, w.field(k.Str, v))
		}
		return err == nil
	})
	if err != nil {
		return nil, named(err)
	}
	w.finish()
	asked := &Request{IncludeUsage: r.IncludeUsage, IncludeCost: r.IncludeCost}
	return &ResponsesRequest{Body: w.t, Dropped: w.dropped, Stream: r.Stream, names: &names{custom: w.custom}, request: asked, o: o}, nil
}

// chatToResponses writes a Responses request while it walks over a chat
// request.
type chatToResponses struct {
	o         ResponsesOptions
	t         rawjson.Writer
	dropped   []string
	custom    map[string]bool // tools with free text for input
	customIDs map[string]bool // their calls so far
	limit     int64
	effort    string
	format    gjson.Result
	verbosity gjson.Result
}

func (w *chatToResponses) field(name string, v gjson.Result) error {
	switch name {
	case "model", "stream", "temperature", "top_p", "user", "safety_identifier", "metadata", "parallel_tool_calls", "service_tier",
		"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options":
		w.t.RawMember(name, v.Raw)
	case "max_tokens", "max_completion_tokens":
		n, err := intValue(v, 1, 1<<31-1)
		if err != nil {
			return err
		}
		if w.limit == 0 || n < w.limit {
			w.limit = n
		}
	case "reasoning_effort":
		return readOneOf(&w.effort, v, efforts...)
	case "thinking":
		if v.Get("type").Str == "disabled" {
			w.effort = "none"
		}
	case "verbosity":
		w.verbosity = v
	case "response_format":
		w.format = v
	case "messages":
		return w.messages(v)
	case "tools":
		return w.tools(v)
	case "tool_choice":
		w.choice(v)
	case "stream_options", "usage", "store":
	case "n":
		if v.Num > 1 {
			return refusef("this model returns one choice")
		}
	default:
		return w.unsupported(name, v)
	}
	return nil
}

// unsupported drops a field that the Responses API does not have, unless the
// operator wants such requests refused.
func (w *chatToResponses) unsupported(name string, v gjson.Result) error {
	changesKind := name == "audio" || name == "functions" || name == "function_call" || name == "modalities" && strings.Contains(v.Raw, "audio")
	if w.o.Unsupported == "reject" || changesKind && w.o.Unsupported != "drop" {
		return &InvalidError{Code: "unsupported_parameter", Message: "the upstream's Responses API has no such field"}
	}
	w.dropped = append(w.dropped, name)
	return nil
}

// finish writes what is nested in another way.
func (w *chatToResponses) finish() {
	t := &w.t
	if w.limit > 0 {
		t.IntMember("max_output_tokens", max(w.limit, 16))
	}
	if w.effort != "" {
		t.OpenObject("reasoning")
		t.StringMember("effort", w.effort)
		if w.effort != "none" {
			t.StringMember("summary", "auto")
		}
		t.EndObject()
	}
	if w.format.Exists() || w.verbosity.Exists() {
		t.OpenObject("text")
		if w.verbosity.Exists() {
			t.RawMember("verbosity", w.verbosity.Raw)
		}
		if w.format.Exists() {
			w.formatMember()
		}
		t.EndObject()
	}
	t.RawMember("store", "false")
	t.RawMember("include", `["reasoning.encrypted_content"]`)
	t.EndObject()
}

func (w *chatToResponses) formatMember() {
	t := &w.t
	schema := w.format.Get("json_schema")
	if !schema.IsObject() {
		t.RawMember("format", w.format.Raw)
		return
	}
	t.OpenObject("format")
	t.StringMember("type", "json_schema")
	for _, name := range []string{"name", "description", "schema", "strict"} {
		if v := schema.Get(name); v.Exists() {
			t.RawMember(name, v.Raw)
		}
	}
	t.EndObject()
}

func (w *chatToResponses) tools(v gjson.Result) error {
	w.t.OpenArray("tools")
	err := eachElement(v, func(i int, e gjson.Result) error {
		kind := e.Get("type").Str
		f := e.Get(kind)
		if kind != "function" && kind != "custom" || !f.IsObject() {
			return within("type", refusef("expected function or custom"))
		}
		w.t.Object()
		w.t.StringMember("type", kind)
		for _, name := range []string{"name", "description", "parameters"} {
			if p := f.Get(name); p.Exists() {
				w.t.RawMember(name, p.Raw)
			}
		}
		if kind == "function" {
			if !f.Get("parameters").Exists() {
				w.t.RawMember("parameters", `{"type":"object","properties":{}}`)
			}
			w.t.Key("strict")
			w.t.Bool(f.Get("strict").Bool())
		} else if format := f.Get("format"); format.Exists() {
			w.customFormat(format)
		}
		w.t.EndObject()
		return nil
	})
	w.t.EndArray()
	return err
}

// customFormat is flat here: {type, syntax, definition}.
func (w *chatToResponses) customFormat(v gjson.Result) {
	g := v.Get("grammar")
	if !g.IsObject() {
		w.t.RawMember("format", v.Raw)
		return
	}
	w.t.OpenObject("format")
	w.t.StringMember("type", "grammar")
	w.t.StringMember("syntax", g.Get("syntax").Str)
	w.t.StringMember("definition", g.Get("definition").Str)
	w.t.EndObject()
}

func (w *chatToResponses) choice(v gjson.Result) {
	if v.Type == gjson.String {
		w.t.RawMember("tool_choice", v.Raw)
		return
	}
	kind := v.Get("type").Str
	w.t.OpenObject("tool_choice")
	w.t.StringMember("type", kind)
	if allowed := v.Get("allowed_tools"); kind == "allowed_tools" {
		w.t.StringMember("mode", orElse(allowed.Get("mode").Str, "auto"))
		w.t.OpenArray("tools")
		for _, e := range allowed.Get("tools").Array() {
			w.t.Object()
			w.t.StringMember("type", e.Get("type").Str)
			w.t.StringMember("name", e.Get(e.Get("type").Str+".name").Str)
			w.t.EndObject()
		}
		w.t.EndArray()
	} else {
		w.t.StringMember("name", v.Get(kind+".name").Str)
	}
	w.t.EndObject()
}

func (w *chatToResponses) messages(v gjson.Result) error {
	w.t.OpenArray("input")
	err := eachElement(v, func(i int, m gjson.Result) error {
		content := m.Get("content")
		switch role := m.Get("role").Str; role {
		case "system", "developer", "user":
			if role == "system" {
				role = "developer"
			}
			w.t.Object()
			w.t.StringMember("type", "message")
			w.t.StringMember("role", role)
			w.t.Key("content")
			err := w.content(content)
			w.t.EndObject()
			return within("content", err)
		case "assistant":
			return w.assistant(m)
		case "tool":
			id := m.Get("tool_call_id").Str
			w.t.Object()
			if w.customIDs[id] {
				w.t.StringMember("type", "custom_tool_call_output")
			} else {
				w.t.StringMember("type", "function_call_output")
			}
			w.t.StringMember("call_id", id)
			w.t.Key("output")
			err := w.content(content)
			w.t.EndObject()
			return within("content", err)
		default:
			return within("role", refusef("expected one of system, developer, user, assistant, tool; got %q", role))
		}
	})
	w.t.EndArray()
	return err
}

// content writes a string or parts.
func (w *chatToResponses) content(v gjson.Result) error {
	if v.Type == gjson.String {
		w.t.Raw(v.Raw)
		return nil
	}
	w.t.Array()
	err := eachElement(v, func(i int, p gjson.Result) error {
		t := &w.t
		switch kind := p.Get("type").Str; kind {
		case "text":
			t.Object()
			t.StringMember("type", "input_text")
			t.RawMember("text", orElse(p.Get("text").Raw, `""`))
			t.EndObject()
		case "image_url":
			t.Object()
			t.StringMember("type", "input_image")
			t.RawMember("image_url", orElse(p.Get("image_url.url").Raw, `""`))
			t.RawMember("detail", orElse(p.Get("image_url.detail").Raw, `"auto"`))
			t.EndObject()
		case "file":
			t.Object()
			t.StringMember("type", "input_file")
			for _, name := range []string{"file_data", "filename", "file_id"} {
				if f := p.Get("file." + name); f.Exists() {
					t.RawMember(name, f.Raw)
				}
			}
			t.EndObject()
		case "input_audio":
			t.Raw(p.Raw)
		default:
			return within("type", refusef("a part of type %q cannot be sent to this model", kind))
		}
		return nil
	})
	w.t.EndArray()
	return err
}

func (w *chatToResponses) assistant(m gjson.Result) error {
	for _, b := range m.Get("thinking_blocks").Array() {
		w.thought(b)
	}
	text := ""
	if content := m.Get("content"); content.Type == gjson.String {
		text = content.Str
	} else {
		for _, p := range content.Array() {
			text += p.Get("text").Str + p.Get("refusal").Str
		}
	}
	t := &w.t
	if text += m.Get("refusal").Str; text != "" {
		t.Object()
		t.StringMember("type", "message")
		t.StringMember("role", "assistant")
		t.OpenArray("content")
		t.Object()
		t.StringMember("type", "output_text")
		t.StringMember("text", text)
		t.RawMember("annotations", "[]")
		t.EndObject()
		t.EndArray()
		t.EndObject()
	}
	return eachElement(orArray(m.Get("tool_calls")), func(i int, c gjson.Result) error {
		id, kind := c.Get("id").Str, orElse(c.Get("type").Str, "function")
		f := c.Get(kind)
		t.Object()
		name, arguments := f.Get("name").Str, f.Get("arguments").Str
		if kind == "custom" || w.custom[name] {
			w.customIDs[id] = true
			t.StringMember("type", "custom_tool_call")
			t.StringMember("call_id", id)
			t.StringMember("name", name)
			t.StringMember("input", orElse(f.Get("input").Str, arguments))
		} else {
			t.StringMember("type", "function_call")
			t.StringMember("call_id", id)
			t.StringMember("name", name)
			t.StringMember("arguments", orElse(arguments, "{}"))
		}
		t.EndObject()
		return nil
	})
}

// orArray is v, or an empty array where there is none.
func orArray(v gjson.Result) gjson.Result {
	if !v.Exists() || v.Type == gjson.Null {
		return gjson.Parse("[]")
	}
	return v
}

// thought gives a reasoning item back, if it is this family's.
func (w *chatToResponses) thought(b gjson.Result) {
	switch b.Get("type").Str {
	case "reasoning_item":
		w.t.Raw(b.Get("item").Raw)
	case "redacted_thinking":
		open, ok := w.o.Seal.Open(w.o.Family, b.Get("data").Str)
		if !ok {
			return
		}
		for _, e := range gjson.ParseBytes(open).Array() {
			if item := e.Get("item"); item.IsObject() {
				w.t.Raw(item.Raw)
			}
		}
	}
}

// reasoningItem is a piece that carries a reasoning item to the client and
// back: the item without the id, which only a store would know.
func (q *ResponsesRequest) reasoningItem(item gjson.Result) (piece, bool) {
	if q.o.Seal == nil || item.Get("encrypted_content").Str == "" {
		return piece{}, false
	}
	var t rawjson.Writer
	t.Array()
	t.Object()
	t.StringMember("type", "reasoning_item")
	t.OpenObject("item")
	t.StringMember("type", "reasoning")
	t.RawMember("summary", orElse(item.Get("summary").Raw, "[]"))
	t.RawMember("encrypted_content", item.Get("encrypted_content").Raw)
	t.EndObject()
	t.EndObject()
	t.EndArray()
	return piece{kind: pieceRedacted, data: q.o.Seal.Close(q.o.Family, t)}, true
}

// FromResponsesStream translates a streamed answer of the Responses API to chat
// chunks.
func FromResponsesStream(q *ResponsesRequest, events iter.Seq2[Event, error], head AnswerHead) Chunks {
	return func(yield func(Chunk, error) bool) {
		s := responsesStream{q: q, w: newChunkWriter(q.names, head, q.request)}
		first := &Head{RequestID: head.RequestID, Dropped: q.Dropped, Created: head.Created}
		native := FromNative(DialectResponses, events, head.RequestID)
		for c, err := range native {
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			if c.Comment {
				if !yield(c, nil) {
					return
				}
				continue
			}
			for _, out := range s.read(c) {
				out.Head, first = first, nil
				if !yield(out, nil) {
					return
				}
			}
			if c.Done {
				yield(Chunk{Done: true}, nil)
				return
			}
		}
	}
}

// responsesStream is what is known of a streamed answer so far.
type responsesStream struct {
	q    *ResponsesRequest
	w    *chunkWriter
	said bool // the open call has had arguments
	out  []Chunk
}

// tell writes a piece as a chunk of its own.
func (s *responsesStream) tell(p piece) {
	if !s.w.started {
		s.add(s.w.start())
	}
	if c, ok := s.w.write(p); ok {
		s.add(c)
	}
}

func (s *responsesStream) add(c Chunk) {
	c.Data = slices.Clone(c.Data)
	s.out = append(s.out, c)
}

// read translates one event to chunks.
func (s *responsesStream) read(c Chunk) []Chunk {
	s.out = s.out[:0]
	switch c.Event {
	case "response.output_text.delta", "response.refusal.delta":
		s.tell(piece{kind: pieceText, text: gjson.GetBytes(c.Data, "delta").Str})
	case "response.reasoning_summary_text.delta", "response.reasoning_text.delta":
		s.tell(piece{kind: pieceReasoning, text: gjson.GetBytes(c.Data, "delta").Str})
	case "response.output_item.added":
		s.added(gjson.GetBytes(c.Data, "item"))
	case "response.function_call_arguments.delta":
		s.said = true
		s.tell(piece{kind: pieceArguments, text: gjson.GetBytes(c.Data, "delta").Str})
	case "response.custom_tool_call_input.delta":
		s.said = true
		s.tell(piece{kind: pieceArguments, text: gjson.GetBytes(c.Data, "delta").Str})
	case "response.output_item.done":
		s.done(gjson.GetBytes(c.Data, "item"))
	case "response.completed", "response.incomplete":
		s.end(c)
	}
	return s.out
}

func (s *responsesStream) added(item gjson.Result) {
	switch item.Get("type").Str {
	case "function_call", "custom_tool_call":
		s.said = false
		s.tell(piece{kind: pieceCall, id: item.Get("call_id").Str, name: item.Get("name").Str})
	case "message", "reasoning":
		if !s.w.started {
			s.add(s.w.start())
		}
	}
}

func (s *responsesStream) done(item gjson.Result) {
	switch item.Get("type").Str {
	case "function_call", "custom_tool_call":
		if !s.said {
			s.tell(piece{kind: pieceArguments, text: item.Get("arguments").Str + item.Get("input").Str})
		}
		s.tell(piece{kind: pieceCallEnd})
	case "reasoning":
		if p, ok := s.q.reasoningItem(item); ok {
			s.tell(p)
		}
	}
}

func (s *responsesStream) end(c Chunk) {
	if !s.w.started {
		s.add(s.w.start())
	}
	s.add(s.w.finish(c.Finish))
	if c.Usage == nil {
		return
	}
	s.add(s.w.usage(ending{usage: c.Usage, cacheCounts: true, serviceTier: gjson.GetBytes(c.Data, "response.service_tier").Str}))
}

// FromResponses translates a whole answer of the Responses API to a chat
// completion.
func FromResponses(q *ResponsesRequest, body []byte, head AnswerHead) (Chunk, error) {
	native, err := WholeNative(DialectResponses, body, head.RequestID)
	if err != nil {
		return Chunk{}, err
	}
	root := gjson.ParseBytes(body)
	if root.Get("status").Str == "failed" {
		return Chunk{}, inBandError([]byte(orElse(root.Get("error").Raw, "{}")), body)
	}
	a := wholeAnswer{names: q.names}
	for _, item := range root.Get("output").Array() {
		switch item.Get("type").Str {
		case "message":
			for _, p := range item.Get("content").Array() {
				a.add(piece{kind: pieceText, text: p.Get("text").Str + p.Get("refusal").Str})
			}
		case "reasoning":
			for _, p := range item.Get("summary").Array() {
				a.add(piece{kind: pieceReasoning, text: p.Get("text").Str})
			}
			if p, ok := q.reasoningItem(item); ok {
				a.add(p)
			}
		case "function_call", "custom_tool_call":
			a.add(piece{kind: pieceCall, id: item.Get("call_id").Str, name: item.Get("name").Str})
			a.add(piece{kind: pieceArguments, text: item.Get("arguments").Str + item.Get("input").Str})
			a.add(piece{kind: pieceCallEnd})
		}
	}
	c := a.chunk(head, ending{finish: native.Finish, usage: native.Usage, cacheCounts: true, serviceTier: root.Get("service_tier").Str})
	c.Malformed = native.Malformed
	c.Head = &Head{RequestID: head.RequestID, Dropped: q.Dropped, Created: head.Created}
	return c, nil
}

// responsesOnly begins the names of the models that refuse function tools on
// chat completions (openai/openai-openapi#541).
var responsesOnly = []string{"gpt-5.4", "gpt-5.5", "gpt-5.6", "gpt-6"}

// NeedsResponses reports whether OpenAI's model has to be spoken to through the
// Responses API.
func NeedsResponses(model string) bool {
	return slices.ContainsFunc(responsesOnly, func(p string) bool { return strings.HasPrefix(model, p) })
}
