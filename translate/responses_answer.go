package translate

import (
	"strconv"
)

// responsesWriter writes an answer of the Responses API.
type responsesWriter struct {
	t    *dialectStream
	head AnswerHead

	sequence int64
	output   jsonText // the items so far
	index    int64    // of the next item
	item     pieceKind
	isOpen   bool
	id       string
	part     pieceKind // of a message: text or refusal
	hasPart  bool
	parts    jsonText // of a message: those that have ended
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
func (w *responsesWriter) event(name string) *jsonText {
	t := &w.t.buf
	w.t.events = append(w.t.events, event{name: name, from: len(*t), sequence: w.sequence})
	*t = append(*t, `{"type":"`...)
	*t = append(append(*t, name...), '"')
	t.intMember("sequence_number", w.sequence)
	w.sequence++
	return t
}

// send ends the event that was begun last.
func (w *responsesWriter) send() {
	w.t.buf = append(w.t.buf, '}')
	w.t.events[len(w.t.events)-1].to = len(w.t.buf)
}

// response is the answer as an object.
func (w *responsesWriter) response(t *jsonText, status, reason string, u *Usage) {
	t.object()
	t.stringMember("id", w.head.ID)
	t.stringMember("object", "response")
	t.intMember("created_at", w.head.Created)
	t.stringMember("status", status)
	t.stringMember("model", w.head.Model)
	t.key("completed_at")
	if status == "completed" {
		t.int(w.head.Created) // a pure package has no clock
	} else {
		t.raw("null")
	}
	t.rawMember("error", "null")
	t.key("incomplete_details")
	if reason == "" {
		t.raw("null")
	} else {
		t.object()
		t.stringMember("reason", reason)
		t.endObject()
	}
	t.rawMember("output", "["+string(w.output)+"]")
	t.comma()
	*t = append(*t, w.t.names.echo...)
	t.key("usage")
	t.responsesUsage(u)
	t.endObject()
}

func (t *jsonText) responsesUsage(u *Usage) {
	if u == nil {
		t.raw("null")
		return
	}
	t.object()
	t.intMember("input_tokens", u.InputTokens)
	t.openObject("input_tokens_details")
	t.intMember("cached_tokens", u.CachedTokens)
	t.intMember("cache_write_tokens", u.CacheWriteTokens)
	t.endObject()
	t.intMember("output_tokens", u.OutputTokens)
	t.openObject("output_tokens_details")
	t.intMember("reasoning_tokens", u.ReasoningTokens)
	t.endObject()
	t.intMember("total_tokens", u.InputTokens+u.OutputTokens)
	t.endObject()
}

func (w *responsesWriter) begin() {
	w.t.created = w.head.ID
	for _, name := range []string{"response.created", "response.in_progress"} {
		t := w.event(name)
		t.key("response")
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
		t.stringMember("delta", p.text)
		if p.kind == pieceText {
			t.rawMember("logprobs", "[]")
		}
		w.send()
	case pieceReasoning:
		w.reasoning()
		if !w.summary {
			w.openSummary()
		}
		w.text = append(w.text, p.text...)
		w.at("response.reasoning_summary_text.delta", "summary_index", w.partIdx).stringMember("delta", p.text)
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
func (w *responsesWriter) at(name, index string, n int64) *jsonText {
	t := w.event(name)
	t.stringMember("item_id", w.id)
	t.intMember("output_index", w.index)
	if index != "" {
		t.intMember(index, n)
	}
	return t
}

// added announces an item; write gives its members beside id.
func (w *responsesWriter) added(kind pieceKind, prefix string, write func(t *jsonText)) {
	w.isOpen, w.item, w.text, w.partIdx = true, kind, w.text[:0], 0
	w.id = prefix + w.head.ID[min(len(w.head.ID), len("resp_")):] + strconv.FormatInt(w.index, 10)
	t := w.event("response.output_item.added")
	t.intMember("output_index", w.index)
	t.key("item")
	t.object()
	t.stringMember("id", w.id)
	write(t)
	t.endObject()
	w.send()
}

// message opens a message, and in it a part of the kind.
func (w *responsesWriter) message(kind pieceKind) {
	if !w.isOpen || w.item != pieceText {
		w.close("completed")
		w.parts, w.hasPart = w.parts[:0], false
		w.added(pieceText, "msg_", func(t *jsonText) {
			t.stringMember("type", "message")
			t.stringMember("status", "in_progress")
			t.stringMember("role", "assistant")
			t.rawMember("content", "[]")
		})
	}
	if w.hasPart && w.part == kind {
		return
	}
	w.closePart()
	w.part, w.hasPart, w.text = kind, true, w.text[:0]
	t := w.at("response.content_part.added", "content_index", w.partIdx)
	t.key("part")
	t.responsesPart(kind, "")
	w.send()
}

func (t *jsonText) responsesPart(kind pieceKind, text string) {
	t.object()
	if kind == pieceRefusal {
		t.stringMember("type", "refusal")
		t.stringMember("refusal", text)
	} else {
		t.stringMember("type", "output_text")
		t.stringMember("text", text)
		t.rawMember("annotations", "[]")
		t.rawMember("logprobs", "[]")
	}
	t.endObject()
}

func (w *responsesWriter) closePart() {
	if !w.hasPart {
		return
	}
	text := string(w.text)
	if w.part == pieceRefusal {
		w.at("response.refusal.done", "content_index", w.partIdx).stringMember("refusal", text)
	} else {
		t := w.at("response.output_text.done", "content_index", w.partIdx)
		t.stringMember("text", text)
		t.rawMember("logprobs", "[]")
	}
	w.send()
	t := w.at("response.content_part.done", "content_index", w.partIdx)
	t.key("part")
	t.responsesPart(w.part, text)
	w.send()
	w.parts.responsesPart(w.part, text)
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
	w.added(pieceReasoning, "rs_", func(t *jsonText) {
		t.stringMember("type", "reasoning")
		t.rawMember("summary", "[]")
	})
}

func (w *responsesWriter) openSummary() {
	w.summary, w.text = true, w.text[:0]
	w.at("response.reasoning_summary_part.added", "summary_index", w.partIdx).rawMember("part", `{"type":"summary_text","text":""}`)
	w.send()
}

func (w *responsesWriter) closeSummary() {
	if !w.summary {
		return
	}
	w.summary = false
	text := string(w.text)
	w.at("response.reasoning_summary_text.done", "summary_index", w.partIdx).stringMember("text", text)
	w.send()
	t := w.at("response.reasoning_summary_part.done", "summary_index", w.partIdx)
	t.openObject("part")
	t.stringMember("type", "summary_text")
	t.stringMember("text", text)
	t.endObject()
	w.send()
	w.parts.object()
	w.parts.stringMember("type", "summary_text")
	w.parts.stringMember("text", text)
	w.parts.endObject()
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
	w.added(pieceCall, prefix, func(t *jsonText) { w.callItem(t, "", "in_progress") })
}

// callItem writes the members of the open call.
func (w *responsesWriter) callItem(t *jsonText, input, status string) {
	n := w.t.names
	name, namespace := w.call.name, ""
	if ns, ok := n.namespace[name]; ok {
		namespace, name = ns[0], ns[1]
	}
	kind := n.kinds[w.call.name]
	switch {
	case kind == "tool_search":
		t.stringMember("type", "tool_search_call")
		t.stringMember("call_id", w.call.id)
		t.stringMember("execution", "client")
		t.rawMember("arguments", toolInput(input))
	case kind != "":
		t.stringMember("type", kind+"_call")
		t.stringMember("call_id", w.call.id)
		t.rawMember(localTools[kind].member, w.action(kind, input))
	case n.custom[w.call.name]:
		t.stringMember("type", "custom_tool_call")
		t.stringMember("call_id", w.call.id)
		t.stringMember("name", name)
		if input != "" {
			input = customInput(input)
		}
		t.stringMember("input", input)
	default:
		t.stringMember("type", "function_call")
		t.stringMember("call_id", w.call.id)
		t.stringMember("name", name)
		t.stringMember("arguments", input)
	}
	if namespace != "" {
		t.stringMember("namespace", namespace)
	}
	t.stringMember("status", status)
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
		w.at("response.function_call_arguments.delta", "", 0).stringMember("delta", s)
		w.send()
	}
}

// close ends the open item.
func (w *responsesWriter) close(status string) {
	if !w.isOpen {
		return
	}
	var item jsonText
	item.object()
	item.stringMember("id", w.id)
	switch w.item {
	case pieceText:
		w.closePart()
		item.stringMember("type", "message")
		item.stringMember("status", status)
		item.stringMember("role", "assistant")
		item.rawMember("content", "["+string(w.parts)+"]")
	case pieceReasoning:
		w.closeSummary()
		item.stringMember("type", "reasoning")
		item.rawMember("summary", "["+string(w.parts)+"]")
		if s := w.thought.sealed(w.t.names); s != "" {
			item.stringMember("encrypted_content", s)
		}
	default:
		w.endArguments()
		w.callItem(&item, string(w.text), status)
	}
	item.endObject()
	t := w.event("response.output_item.done")
	t.intMember("output_index", w.index)
	t.rawMember("item", string(item))
	w.send()
	w.output.raw(string(item))
	w.index++
	w.isOpen = false
}

func (w *responsesWriter) endArguments() {
	input := string(w.text)
	switch {
	case w.t.names.custom[w.call.name]:
		text := customInput(input)
		w.at("response.custom_tool_call_input.delta", "", 0).stringMember("delta", text)
		w.send()
		w.at("response.custom_tool_call_input.done", "", 0).stringMember("input", text)
		w.send()
	case w.plainCall():
		t := w.at("response.function_call_arguments.done", "", 0)
		name := w.call.name
		if ns, ok := w.t.names.namespace[name]; ok {
			name = ns[1]
		}
		t.stringMember("name", name)
		t.stringMember("arguments", input)
		w.send()
	}
}

func (w *responsesWriter) end(finish string, u *Usage) {
	status, reason := responsesStatus(finish)
	w.close(status)
	t := w.event("response." + status)
	t.key("response")
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
