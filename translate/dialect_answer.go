package translate

import (
	"github.com/inference-router/inference-router/internal/rawjson"

	"slices"
	"strconv"

	"github.com/tidwall/gjson"
)

// dialectNames is what an answer has to know of its request.
type dialectNames struct {
	input     int64                // estimate of the prompt's tokens
	echo      string               // members of a Responses request that its answer repeats
	custom    map[string]bool      // tools whose input is free text
	namespace map[string][2]string // tools of a namespace: that, and the tool's own name
	kinds     map[string]string    // tools that are no functions, by name: local_shell, …
	seal      *Seal
	family    string
}

// InDialect makes of a chat answer one in the dialect of the request that chat
// was translated from: events of a stream, or one whole answer. Its last chunk
// says Done and holds the event that ends the answer; there is none after an
// error. family says who signed the reasoning in it.
func InDialect(answer Chunks, r, chat *Request, head AnswerHead, o ChatOptions) Chunks {
	names := dialectNames{seal: o.Seal, family: o.Family, input: (r.InputBytes + bytesAToken - 1) / bytesAToken}
	if chat.names != nil {
		n := *chat.names
		n.seal, n.family, n.input = names.seal, names.family, names.input
		names = n
	}
	return func(yield func(Chunk, error) bool) {
		t := dialectStream{names: &names, yield: yield, dropped: chat.Dropped}
		switch r.Dialect {
		case DialectMessages:
			t.w = newMessagesWriter(&t, head)
		case DialectResponses:
			t.w = newResponsesWriter(&t, head)
		default:
			t.w = &completionsWriter{t: &t, head: head, usageAsked: r.IncludeUsage || r.IncludeCost}
		}
		t.run(answer)
	}
}

// bytesAToken is what a token is taken to cover where a count is estimated
// from above.
const bytesAToken = 3

// EstimateTokens is how many tokens the request's prompt has at most, roughly.
func (r *Request) EstimateTokens() int64 {
	media := int64(r.Images)*1600 + int64(r.Audio+r.Files)*4000
	return (r.InputBytes+bytesAToken-1)/bytesAToken + media
}

// dialectWriter writes an answer in a dialect, piece by piece.
type dialectWriter interface {
	begin()
	piece(p piece)
	// end closes what is open and writes the event that ends the answer.
	end(finish string, u *Usage)
	// whole is the answer as one object, once it has ended.
	whole() []byte
}

// dialectStream turns one answer into a dialect's.
type dialectStream struct {
	names *dialectNames
	w     dialectWriter
	yield func(Chunk, error) bool

	reader  chatReader
	buf     rawjson.Writer
	events  []event
	created string // AnswerID, until it has been told
	started bool
	dropped []string // until it has been told
	usage   *Usage
}

// event is one event in buf.
type event struct {
	name     string
	from, to int
	sequence int64
}

// emit ends an event that was written to buf from a place on.
func (t *dialectStream) emit(name string, from int, sequence int64) {
	t.events = append(t.events, event{name, from, len(t.buf), sequence})
}

func (t *dialectStream) run(answer Chunks) {
	for c, err := range answer {
		switch {
		case err != nil:
			t.yield(Chunk{}, err)
			return
		case c.Head != nil && len(t.dropped) > 0 && !c.Comment:
			head := *c.Head
			head.Dropped = append(slices.Clone(t.dropped), head.Dropped...)
			c.Head, t.dropped = &head, nil
		}
		switch {
		case c.Comment:
			if !t.yield(c, nil) {
				return
			}
			continue
		case c.Whole:
			t.yield(t.whole(c), nil)
			return
		}
		if c.Usage != nil {
			t.usage = c.Usage.AtLeast(t.usage)
		}
		t.start()
		if len(c.Data) > 0 && !c.Partial {
			t.reader.read(c.Data, t.w.piece)
		}
		if c.Done {
			t.finish(c)
			return
		}
		if !t.send(c) {
			return
		}
	}
	t.start()
	t.finish(Chunk{})
}

func (t *dialectStream) start() {
	if !t.started {
		t.started = true
		t.w.begin()
	}
}

// send passes on the events so far, with what c says of cost.
func (t *dialectStream) send(c Chunk) bool {
	c.Data = nil
	if len(t.events) == 0 {
		return t.yield(c, nil)
	}
	for i, e := range t.events {
		c.Data, c.Event, c.Sequence, c.AnswerID = t.buf[e.from:e.to], e.name, e.sequence, t.created
		last := i == len(t.events)-1
		more := c.More
		c.More = more || !last
		if !t.yield(c, nil) {
			return false
		}
		c = Chunk{More: more}
	}
	t.events, t.buf = t.events[:0], t.buf[:0]
	return true
}

// finish ends the answer. Its last event comes with Done, once it is charged.
func (t *dialectStream) finish(c Chunk) {
	t.reader.flush(t.w.piece)
	t.w.end(t.reader.finish, t.usage)
	last := t.events[len(t.events)-1]
	t.events = t.events[:len(t.events)-1]
	c.Done, c.Usage = false, t.usage
	if len(t.events) > 0 {
		c.More = true
		if !t.sendKeeping(c) {
			return
		}
	} else if t.usage != nil && !t.yield(Chunk{Usage: t.usage, Head: c.Head}, nil) {
		return
	}
	t.yield(Chunk{Data: t.buf[last.from:last.to], Event: last.name, Sequence: last.sequence, AnswerID: t.created, Finish: t.reader.finish, Done: true}, nil)
}

// sendKeeping is send without letting go of the buffer.
func (t *dialectStream) sendKeeping(c Chunk) bool {
	for _, e := range t.events {
		c.Data, c.Event, c.Sequence, c.AnswerID, c.More = t.buf[e.from:e.to], e.name, e.sequence, t.created, true
		if !t.yield(c, nil) {
			return false
		}
		c = Chunk{}
	}
	return true
}

// whole translates an answer in one piece.
func (t *dialectStream) whole(c Chunk) Chunk {
	t.usage = c.Usage
	t.w.begin()
	t.reader.read(c.Data, t.w.piece)
	t.reader.flush(t.w.piece)
	t.w.end(t.reader.finish, t.usage)
	c.Data = t.w.whole()
	return c
}

// chatReader reads chat chunks, or one chat completion, as pieces. Calls come
// out one after the other, each with its end, however they were sent.
type chatReader struct {
	finish string
	open   bool
	index  int64
	args   []byte // of the open call
	held   []heldCall
}

// heldCall is a call that began while another was open.
type heldCall struct {
	index    int64
	id, name string
	args     []byte
}

func (r *chatReader) read(data []byte, tell func(piece)) {
	choice := gjson.GetBytes(data, "choices.0")
	if f := choice.Get("finish_reason"); f.Type == gjson.String {
		r.finish = f.Str
	}
	delta := choice.Get("delta")
	whole := false
	if !delta.Exists() {
		delta, whole = choice.Get("message"), true
	}
	if whole {
		r.message(delta, tell)
		return
	}
	delta.ForEach(func(k, v gjson.Result) bool {
		r.member(k.Str, v, tell)
		return true
	})
}

// message reads a whole message in the order in which a model says it.
func (r *chatReader) message(m gjson.Result, tell func(piece)) {
	if blocks := m.Get("thinking_blocks"); len(blocks.Array()) > 0 {
		r.member("thinking_blocks", blocks, tell)
	} else if thought := m.Get("reasoning_content"); thought.Str != "" {
		r.member("reasoning_content", thought, tell)
	} else {
		r.member("reasoning", m.Get("reasoning"), tell)
	}
	for _, name := range []string{"content", "refusal", "tool_calls", "function_call"} {
		r.member(name, m.Get(name), tell)
	}
}

func (r *chatReader) member(name string, v gjson.Result, tell func(piece)) {
	switch name {
	case "content":
		if v.Str != "" {
			r.flush(tell)
			tell(piece{kind: pieceText, text: v.Str})
		}
	case "reasoning_content", "reasoning":
		if v.Type == gjson.String && v.Str != "" {
			tell(piece{kind: pieceReasoning, text: v.Str})
		}
	case "refusal":
		if v.Str != "" {
			tell(piece{kind: pieceRefusal, text: v.Str})
		}
	case "thinking_blocks":
		for _, b := range v.Array() {
			if b.Get("type").Str == "redacted_thinking" {
				tell(piece{kind: pieceRedacted, data: b.Get("data").Str})
			} else {
				tell(piece{kind: pieceSigned, text: b.Get("thinking").Str, signature: b.Get("signature").Str})
			}
		}
	case "tool_calls":
		for i, c := range v.Array() {
			index := int64(i)
			if n := c.Get("index"); n.Exists() {
				index = n.Int()
			}
			f := c.Get("function")
			arguments := f.Get("arguments").Str
			if f = c.Get("function"); !f.Exists() {
				f = c.Get("custom")
				arguments = f.Get("input").Str
			}
			r.call(index, c.Get("id").Str, f.Get("name").Str, arguments, tell)
		}
	}
}

// call takes in a part of a call. One that begins while another is open ends
// that if it is complete, else it waits.
func (r *chatReader) call(index int64, id, name, arguments string, tell func(piece)) {
	if r.open && r.index == index {
		r.arguments(arguments, tell)
		return
	}
	if r.open && len(r.held) == 0 && gjson.ValidBytes(r.args) {
		r.close(tell)
	}
	if !r.open {
		r.begin(index, id, name, tell)
		r.arguments(arguments, tell)
		return
	}
	for i := range r.held {
		if r.held[i].index == index {
			r.held[i].args = append(r.held[i].args, arguments...)
			return
		}
	}
	r.held = append(r.held, heldCall{index, id, name, []byte(arguments)})
}

func (r *chatReader) begin(index int64, id, name string, tell func(piece)) {
	r.open, r.index, r.args = true, index, r.args[:0]
	if id == "" {
		id = "call_" + strconv.FormatInt(index, 10)
	}
	tell(piece{kind: pieceCall, id: id, name: name})
}

func (r *chatReader) arguments(s string, tell func(piece)) {
	if s != "" {
		r.args = append(r.args, s...)
		tell(piece{kind: pieceArguments, text: s})
	}
}

func (r *chatReader) close(tell func(piece)) {
	if len(r.args) == 0 {
		tell(piece{kind: pieceArguments, text: "{}"})
	}
	tell(piece{kind: pieceCallEnd, data: r.finish})
	r.open = false
}

// flush ends the open call and those that wait.
func (r *chatReader) flush(tell func(piece)) {
	if r.open {
		r.close(tell)
	}
	for _, h := range r.held {
		r.begin(h.index, h.id, h.name, tell)
		r.arguments(string(h.args), tell)
		r.close(tell)
	}
	r.held = nil
}

// signedThoughts collects signed reasoning as thinking_blocks.
type signedThoughts struct {
	blocks rawjson.Writer
}

func (h *signedThoughts) add(p piece) {
	if len(h.blocks) == 0 {
		h.blocks.Array()
	}
	writeThinkingBlock(&h.blocks, p)
}

// sealed is what a client is to give back: "" where nothing was signed.
func (h *signedThoughts) sealed(n *dialectNames) string {
	if len(h.blocks) == 0 || n.seal == nil {
		return ""
	}
	h.blocks.EndArray()
	return n.seal.Close(n.family, h.blocks)
}
