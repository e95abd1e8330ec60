package translate

import "github.com/inference-router/inference-router/internal/rawjson"

// messagesWriter writes an answer of the Messages API.
type messagesWriter struct {
	t    *dialectStream
	head AnswerHead

	index   int64 // of the next block
	open    pieceKind
	isOpen  bool
	content rawjson.Writer // the blocks so far, for a whole answer
	text    []byte         // of the open block
	call    piece
	calls   int
	refused bool
	tail    string // stop_reason and usage of a whole answer
}

func newMessagesWriter(t *dialectStream, head AnswerHead) *messagesWriter {
	return &messagesWriter{t: t, head: head}
}

// event begins one event; its end is sent by send.
func (w *messagesWriter) event(name string) (t *rawjson.Writer, from int) {
	t = &w.t.buf
	from = len(*t)
	*t = append(*t, `{"type":"`...)
	*t = append(append(*t, name...), '"')
	return t, from
}

func (w *messagesWriter) send(name string, from int) {
	w.t.buf = append(w.t.buf, '}')
	w.t.emit(name, from, 0)
}

func (w *messagesWriter) begin() {
	w.t.created = w.head.ID
	t, from := w.event("message_start")
	t.OpenObject("message")
	w.message(t, "[]")
	*t = append(*t, `,"stop_reason":null,"stop_sequence":null,"stop_details":null,"usage":`...)
	writeMessagesUsage(t, &Usage{InputTokens: w.t.names.input})
	t.EndObject()
	w.send("message_start", from)
}

func (w *messagesWriter) message(t *rawjson.Writer, content string) {
	t.StringMember("id", w.head.ID)
	t.StringMember("type", "message")
	t.StringMember("role", "assistant")
	t.StringMember("model", w.head.Model)
	t.RawMember("content", content)
	t.RawMember("container", "null")
}

func writeMessagesUsage(t *rawjson.Writer, u *Usage) {
	if u == nil {
		u = &Usage{}
	}
	hour := u.CacheWriteHourTokens
	t.Object()
	t.IntMember("input_tokens", max(0, u.InputTokens-u.CachedTokens-u.CacheWriteTokens))
	t.IntMember("cache_creation_input_tokens", u.CacheWriteTokens)
	t.IntMember("cache_read_input_tokens", u.CachedTokens)
	t.OpenObject("cache_creation")
	t.IntMember("ephemeral_5m_input_tokens", max(0, u.CacheWriteTokens-hour))
	t.IntMember("ephemeral_1h_input_tokens", hour)
	t.EndObject()
	t.IntMember("output_tokens", u.OutputTokens)
	t.RawMember("server_tool_use", "null")
	t.StringMember("service_tier", "standard")
	t.EndObject()
}

func (w *messagesWriter) piece(p piece) {
	switch p.kind {
	case pieceText, pieceRefusal:
		w.refused = w.refused || p.kind == pieceRefusal
		w.block(pieceText)
		w.delta("text_delta", "text", p.text)
	case pieceReasoning:
		w.block(pieceReasoning)
		w.delta("thinking_delta", "thinking", p.text)
	case pieceSigned:
		w.signed(p)
	case pieceRedacted:
		w.close("")
		t := w.start()
		t.Object()
		t.StringMember("type", "redacted_thinking")
		t.StringMember("data", p.data)
		t.EndObject()
		w.started()
		w.keep(func(t *rawjson.Writer) {
			t.StringMember("type", "redacted_thinking")
			t.StringMember("data", p.data)
		})
		w.stop()
	case pieceCall:
		w.close("")
		w.calls++
		t := w.start()
		t.Object()
		t.StringMember("type", "tool_use")
		t.StringMember("id", p.id)
		t.StringMember("name", p.name)
		t.RawMember("input", "{}")
		t.EndObject()
		w.started()
		w.isOpen, w.open, w.call, w.text = true, pieceCall, p, w.text[:0]
	case pieceArguments:
		w.delta("input_json_delta", "partial_json", p.text)
	case pieceCallEnd:
		w.close("")
	}
}

// block opens a block of text or of reasoning, unless it is open.
func (w *messagesWriter) block(kind pieceKind) {
	if w.isOpen && w.open == kind {
		return
	}
	w.close("")
	t := w.start()
	if kind == pieceText {
		t.Raw(`{"type":"text","text":""}`)
	} else {
		t.Raw(`{"type":"thinking","thinking":"","signature":""}`)
	}
	w.started()
	w.isOpen, w.open, w.text = true, kind, w.text[:0]
}

// signed ends a block of reasoning with its signature; one that was not told
// piece by piece is told now.
func (w *messagesWriter) signed(p piece) {
	if !w.isOpen || w.open != pieceReasoning {
		w.block(pieceReasoning)
		if p.text != "" {
			w.delta("thinking_delta", "thinking", p.text)
		}
	}
	w.delta("signature_delta", "signature", p.signature)
	w.close(p.signature)
}

// start begins the event that opens a block; started ends it.
func (w *messagesWriter) start() *rawjson.Writer {
	t, _ := w.event("content_block_start")
	t.IntMember("index", w.index)
	t.Key("content_block")
	return t
}

func (w *messagesWriter) started() {
	from := 0
	if n := len(w.t.events); n > 0 {
		from = w.t.events[n-1].to
	}
	w.send("content_block_start", from)
}

func (w *messagesWriter) delta(kind, member, s string) {
	if member != "signature" {
		w.text = append(w.text, s...)
	}
	t, from := w.event("content_block_delta")
	t.IntMember("index", w.index)
	t.OpenObject("delta")
	t.StringMember("type", kind)
	t.StringMember(member, s)
	t.EndObject()
	w.send("content_block_delta", from)
}

// close ends the open block, if there is one.
func (w *messagesWriter) close(signature string) {
	if !w.isOpen {
		return
	}
	text := string(w.text)
	w.keep(func(t *rawjson.Writer) {
		switch w.open {
		case pieceText:
			t.StringMember("type", "text")
			t.StringMember("text", text)
		case pieceReasoning:
			t.StringMember("type", "thinking")
			t.StringMember("thinking", text)
			t.StringMember("signature", signature)
		default:
			t.StringMember("type", "tool_use")
			t.StringMember("id", w.call.id)
			t.StringMember("name", w.call.name)
			t.RawMember("input", toolInput(text))
		}
	})
	w.isOpen = false
	w.stop()
}

func (w *messagesWriter) keep(write func(t *rawjson.Writer)) {
	w.content.Object()
	write(&w.content)
	w.content.EndObject()
}

func (w *messagesWriter) stop() {
	t, from := w.event("content_block_stop")
	t.IntMember("index", w.index)
	w.index++
	w.send("content_block_stop", from)
}

func (w *messagesWriter) end(finish string, u *Usage) {
	w.close("")
	var t rawjson.Writer
	t = append(t, `"stop_reason":"`...)
	t = append(append(t, w.stopReason(finish)...), '"')
	t = append(t, `,"stop_sequence":null,"stop_details":null`...)
	delta := string(t)
	e, from := w.event("message_delta")
	*e = append(append(*e, `,"delta":{`...), delta...)
	*e = append(*e, `,"container":null},"usage":`...)
	writeMessagesUsage(e, u)
	w.send("message_delta", from)
	_, from = w.event("message_stop")
	w.send("message_stop", from)

	t = append(t, `,"usage":`...)
	writeMessagesUsage(&t, u)
	w.tail = string(t)
}

func (w *messagesWriter) stopReason(finish string) string {
	switch {
	case finish == "length":
		return "max_tokens"
	case finish == "content_filter" || w.refused:
		return "refusal"
	case w.calls > 0:
		return "tool_use"
	}
	return "end_turn"
}

func (w *messagesWriter) whole() []byte {
	var t rawjson.Writer
	t.Object()
	w.message(&t, "["+string(w.content)+"]")
	t = append(append(t, ','), w.tail...)
	t.EndObject()
	return t
}
