package translate

import (
	"github.com/inference-router/inference-router/internal/rawjson"

	"strconv"
)

// responsesWriter writes an answer of the Responses API.
type responsesWriter struct {
	t    *dialectStream
	head AnswerHead

	sequence int64
	output   rawjson.Writer // the items so far
	index    int64          // of the next item
	item     pieceKind
	isOpen   bool
	id       string
	part     pieceKind // of a message: text or refusal
	hasPart  bool
	parts    rawjson.Writer // of a message: those that have ended
	partIdx  int64
	text     []byte // of the part, the summary, or the call's input
	thought  signedThoughts
	call     piece
	summary  bool // the open reasoning has a summary part

	object string // the answer, once it has ended
}

func newResponsesWriter(t *dialectStream, head AnswerHead) *responsesWriter {
	return &responsesWriter{t: t, head: head}
}

// event begins an event.
func (w *responsesWriter) event(name string) *rawjson.Writer {
	t := &w.t.buf
	w.t.events = append(w.t.events, event{name: name, from: len(*t), sequence: w.sequence})
	*t = append(*t, `{"type":"`...)
	*t = append(append(*t, name...), '"')
	t.IntMember("sequence_number", w.sequence)
	w.sequence++
	return t
}

// send ends the event that was begun last.
func (w *responsesWriter) send() {
	w.t.buf = append(w.t.buf, '}')
	w.t.events[len(w.t.events)-1].to = len(w.t.buf)
}

// response is the answer as an object.
func (w *responsesWriter) response(t *rawjson.Writer, status, reason string, u *Usage) {
	t.Object()
	t.StringMember("id", w.head.ID)
	t.StringMember("object", "response")
	t.IntMember("created_at", w.head.Created)
	t.StringMember("status", status)
	t.StringMember("model", w.head.Model)
	t.Key("completed_at")
	if status == "completed" {
		t.Int(w.head.Created) // a pure package has no clock
	} else {
		t.Raw("null")
	}
	t.RawMember("error", "null")
	t.Key("incomplete_details")
	if reason == "" {
		t.Raw("null")
	} else {
		t.Object()
		t.StringMember("reason", reason)
		t.EndObject()
	}
	t.RawMember("output", "["+string(w.output)+"]")
	*t = append(*t, ',')
	*t = append(*t, w.t.names.echo...)
	t.Key("usage")
	writeResponsesUsage(t, u)
	t.EndObject()
}

func writeResponsesUsage(t *rawjson.Writer, u *Usage) {
	if u == nil {
		t.Raw("null")
		return
	}
	t.Object()
	t.IntMember("input_tokens", u.InputTokens)
	t.OpenObject("input_tokens_details")
	t.IntMember("cached_tokens", u.CachedTokens)
	t.IntMember("cache_write_tokens", u.CacheWriteTokens)
	t.EndObject()
	t.IntMember("output_tokens", u.OutputTokens)
	t.OpenObject("output_tokens_details")
	t.IntMember("reasoning_tokens", u.ReasoningTokens)
	t.EndObject()
	t.IntMember("total_tokens", u.InputTokens+u.OutputTokens)
	t.EndObject()
}

func (w *responsesWriter) begin() {
	w.t.created = w.head.ID
	for _, name := range []string{"response.created", "response.in_progress"} {
		t := w.event(name)
		t.Key("response")
		w.response(t, "in_progress", "", nil)
		w.send()
	}
}

func (w *responsesWriter) piece(p piece) {
	switch p.kind {
	case pieceText, pieceRefusal:
		w.message(p.kind)
		name := "response.output_text.delta"
		if p.kind == pieceRefusal {
			name = "response.refusal.delta"
		}
		w.text = append(w.text, p.text...)
		t := w.at(name, "content_index", w.partIdx)
		t.StringMember("delta", p.text)
		if p.kind == pieceText {
			t.RawMember("logprobs", "[]")
		}
		w.send()
	case pieceReasoning:
		w.reasoning()
		if !w.summary {
			w.openSummary()
		}
		w.text = append(w.text, p.text...)
		w.at("response.reasoning_summary_text.delta", "summary_index", w.partIdx).StringMember("delta", p.text)
		w.send()
	case pieceSigned, pieceRedacted:
		w.reasoning()
		if p.kind == pieceSigned && !w.summary && p.text != "" {
			w.piece(piece{kind: pieceReasoning, text: p.text})
		}
		w.closeSummary()
		w.thought.add(p)
	case pieceCall:
		w.close("completed")
		w.openCall(p)
	case pieceArguments:
		w.arguments(p.text)
	case pieceCallEnd:
		status, _ := responsesStatus(p.data)
		w.close(status)
	}
}

// at begins an event about the open item, with one more index.
func (w *responsesWriter) at(name, index string, n int64) *rawjson.Writer {
	t := w.event(name)
	t.StringMember("item_id", w.id)
	t.IntMember("output_index", w.index)
	if index != "" {
		t.IntMember(index, n)
	}
	return t
}

// added announces an item; write gives its members beside id.
func (w *responsesWriter) added(kind pieceKind, prefix string, write func(t *rawjson.Writer)) {
	w.isOpen, w.item, w.text, w.partIdx = true, kind, w.text[:0], 0
	w.id = prefix + w.head.ID[min(len(w.head.ID), len("resp_")):] + strconv.FormatInt(w.index, 10)
	t := w.event("response.output_item.added")
	t.IntMember("output_index", w.index)
	t.Key("item")
	t.Object()
	t.StringMember("id", w.id)
	write(t)
	t.EndObject()
	w.send()
}

// message opens a message, and in it a part of the kind.
func (w *responsesWriter) message(kind pieceKind) {
	if !w.isOpen || w.item != pieceText {
		w.close("completed")
		w.parts, w.hasPart = w.parts[:0], false
		w.added(pieceText, "msg_", func(t *rawjson.Writer) {
			t.StringMember("type", "message")
			t.StringMember("status", "in_progress")
			t.StringMember("role", "assistant")
			t.RawMember("content", "[]")
		})
	}
	if w.hasPart && w.part == kind {
		return
	}
	w.closePart()
	w.part, w.hasPart, w.text = kind, true, w.text[:0]
	t := w.at("response.content_part.added", "content_index", w.partIdx)
	t.Key("part")
	writeResponsesPart(t, kind, "")
	w.send()
}

func writeResponsesPart(t *rawjson.Writer, kind pieceKind, text string) {
	t.Object()
	if kind == pieceRefusal {
		t.StringMember("type", "refusal")
		t.StringMember("refusal", text)
	} else {
		t.StringMember("type", "output_text")
		t.StringMember("text", text)
		t.RawMember("annotations", "[]")
		t.RawMember("logprobs", "[]")
	}
	t.EndObject()
}

func (w *responsesWriter) closePart() {
	if !w.hasPart {
		return
	}
	text := string(w.text)
	if w.part == pieceRefusal {
		w.at("response.refusal.done", "content_index", w.partIdx).StringMember("refusal", text)
	} else {
		t := w.at("response.output_text.done", "content_index", w.partIdx)
		t.StringMember("text", text)
		t.RawMember("logprobs", "[]")
	}
	w.send()
	t := w.at("response.content_part.done", "content_index", w.partIdx)
	t.Key("part")
	writeResponsesPart(t, w.part, text)
	w.send()
	writeResponsesPart(&w.parts, w.part, text)
	w.hasPart = false
	w.partIdx++
}

// reasoning opens a reasoning item.
func (w *responsesWriter) reasoning() {
	if w.isOpen && w.item == pieceReasoning {
		return
	}
	w.close("completed")
	w.parts, w.summary, w.thought = w.parts[:0], false, signedThoughts{}
	w.added(pieceReasoning, "rs_", func(t *rawjson.Writer) {
		t.StringMember("type", "reasoning")
		t.RawMember("summary", "[]")
	})
}

func (w *responsesWriter) openSummary() {
	w.summary, w.text = true, w.text[:0]
	w.at("response.reasoning_summary_part.added", "summary_index", w.partIdx).RawMember("part", `{"type":"summary_text","text":""}`)
	w.send()
}

func (w *responsesWriter) closeSummary() {
	if !w.summary {
		return
	}
	w.summary = false
	text := string(w.text)
	w.at("response.reasoning_summary_text.done", "summary_index", w.partIdx).StringMember("text", text)
	w.send()
	t := w.at("response.reasoning_summary_part.done", "summary_index", w.partIdx)
	t.OpenObject("part")
	t.StringMember("type", "summary_text")
	t.StringMember("text", text)
	t.EndObject()
	w.send()
	w.parts.Object()
	w.parts.StringMember("type", "summary_text")
	w.parts.StringMember("text", text)
	w.parts.EndObject()
	w.partIdx++
}

// openCall announces a call. One whose input is not told as it comes is known
// in full only at its end.
func (w *responsesWriter) openCall(p piece) {
	w.call = p
	prefix := "fc_"
	if w.t.names.custom[p.name] {
		prefix = "ctc_"
	}
	w.added(pieceCall, prefix, func(t *rawjson.Writer) { w.callItem(t, "", "in_progress") })
}

// callItem writes the members of the open call.
func (w *responsesWriter) callItem(t *rawjson.Writer, input, status string) {
	n := w.t.names
	name, namespace := w.call.name, ""
	if ns, ok := n.namespace[name]; ok {
		namespace, name = ns[0], ns[1]
	}
	kind := n.kinds[w.call.name]
	switch {
	case kind == "tool_search":
		t.StringMember("type", "tool_search_call")
		t.StringMember("call_id", w.call.id)
		t.StringMember("execution", "client")
		t.RawMember("arguments", toolInput(input))
	case kind != "":
		t.StringMember("type", kind+"_call")
		t.StringMember("call_id", w.call.id)
		t.RawMember(localTools[kind].member, w.action(kind, input))
	case n.custom[w.call.name]:
		t.StringMember("type", "custom_tool_call")
		t.StringMember("call_id", w.call.id)
		t.StringMember("name", name)
		if input != "" {
			input = customInput(input)
		}
		t.StringMember("input", input)
	default:
		t.StringMember("type", "function_call")
		t.StringMember("call_id", w.call.id)
		t.StringMember("name", name)
		t.StringMember("arguments", input)
	}
	if namespace != "" {
		t.StringMember("namespace", namespace)
	}
	t.StringMember("status", status)
}

// action is the input of a call of one of the local tools; before it is known
// it is empty, but of the right shape.
func (w *responsesWriter) action(kind, input string) string {
	if input != "" {
		return toolInput(input)
	}
	switch kind {
	case "local_shell":
		return `{"type":"exec","command":[],"env":{}}`
	case "apply_patch":
		return `{"type":"update_file","path":"","diff":""}`
	}
	return `{"commands":[]}`
}

// plainCall says that the open call's arguments are told as they come.
func (w *responsesWriter) plainCall() bool {
	return w.t.names.kinds[w.call.name] == "" && !w.t.names.custom[w.call.name]
}

func (w *responsesWriter) arguments(s string) {
	w.text = append(w.text, s...)
	if w.plainCall() {
		w.at("response.function_call_arguments.delta", "", 0).StringMember("delta", s)
		w.send()
	}
}

// close ends the open item.
func (w *responsesWriter) close(status string) {
	if !w.isOpen {
		return
	}
	var item rawjson.Writer
	item.Object()
	item.StringMember("id", w.id)
	switch w.item {
	case pieceText:
		w.closePart()
		item.StringMember("type", "message")
		item.StringMember("status", status)
		item.StringMember("role", "assistant")
		item.RawMember("content", "["+string(w.parts)+"]")
	case pieceReasoning:
		w.closeSummary()
		item.StringMember("type", "reasoning")
		item.RawMember("summary", "["+string(w.parts)+"]")
		if s := w.thought.sealed(w.t.names); s != "" {
			item.StringMember("encrypted_content", s)
		}
	default:
		w.endArguments()
		w.callItem(&item, string(w.text), status)
	}
	item.EndObject()
	t := w.event("response.output_item.done")
	t.IntMember("output_index", w.index)
	t.RawMember("item", string(item))
	w.send()
	w.output.Raw(string(item))
	w.index++
	w.isOpen = false
}

func (w *responsesWriter) endArguments() {
	input := string(w.text)
	switch {
	case w.t.names.custom[w.call.name]:
		text := customInput(input)
		w.at("response.custom_tool_call_input.delta", "", 0).StringMember("delta", text)
		w.send()
		w.at("response.custom_tool_call_input.done", "", 0).StringMember("input", text)
		w.send()
	case w.plainCall():
		t := w.at("response.function_call_arguments.done", "", 0)
		name := w.call.name
		if ns, ok := w.t.names.namespace[name]; ok {
			name = ns[1]
		}
		t.StringMember("name", name)
		t.StringMember("arguments", input)
		w.send()
	}
}

func (w *responsesWriter) end(finish string, u *Usage) {
	status, reason := responsesStatus(finish)
	w.close(status)
	t := w.event("response." + status)
	t.Key("response")
	from := len(*t)
	w.response(t, status, reason, u)
	w.object = string((*t)[from:])
	w.send()
}

func (w *responsesWriter) whole() []byte { return []byte(w.object) }

// responsesStatus is the status of an answer, and why it is incomplete.
func responsesStatus(finish string) (status, reason string) {
	switch finish {
	case "length":
		return "incomplete", "max_output_tokens"
	case "content_filter":
		return "incomplete", "content_filter"
	}
	return "completed", ""
}
