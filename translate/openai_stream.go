package translate

import (
	"bytes"
	"cmp"
	"iter"
)

// OpenAIOptions says how an OpenAI-compatible answer is to be passed on.
type OpenAIOptions struct {
	// HideUsage withholds the usage chunk, and cuts "usage":null from the
	// others: the client did not ask for them, we did.
	HideUsage bool
	RequestID string // the provider's id of the call
	Header    map[string][]string
}

// FromOpenAI passes on a streamed answer event by event, as it came, and reads
// what is billed and recorded from each. It ends with a chunk that says Done,
// or with an error.
func FromOpenAI(events iter.Seq2[Event, error], o OpenAIOptions) Chunks {
	return func(yield func(Chunk, error) bool) {
		s := openAIStream{hideUsage: o.HideUsage}
		head := &Head{RequestID: o.RequestID, Header: o.Header}
		for e, err := range events {
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			c, ok, err := s.chunk(e)
			if err != nil {
				yield(Chunk{}, err)
				return
			}
			if !ok {
				continue
			}
			c.Head = head
			if !c.Comment {
				head = nil
			}
			if !yield(c, nil) || c.Done {
				return
			}
		}
		if err := s.end(); err != nil {
			yield(Chunk{}, err)
			return
		}
		yield(Chunk{Done: true, Head: head}, nil)
	}
}

// openAIStream is what is known of a stream so far.
type openAIStream struct {
	hideUsage bool
	begun     bool   // an event has come
	finished  bool   // a finish_reason has come
	tier      string // the service tier told last
	inside    bool   // in the middle of an event that comes in pieces
	reader    answerReader
	buf       []byte // of the last chunk that was changed
}

// chunk turns an event into a chunk; not ok means that there is nothing to
// pass on.
func (s *openAIStream) chunk(e Event) (c Chunk, ok bool, err error) {
	switch {
	case e.Comment:
		return Chunk{Comment: true, Data: e.Data, More: e.More}, true, nil
	case s.inside || e.Partial:
		return s.piece(e), true, nil
	case isDone(e.Data):
		if !s.begun {
			return c, false, s.end()
		}
		return Chunk{Done: true}, true, nil
	case len(bytes.TrimSpace(e.Data)) == 0: // clients choke on an empty event
		return c, false, nil
	}
	a := s.reader.read(e.Data)
	if e.Cut && a.malformed {
		return c, false, nil
	}
	if a.failure != nil || e.Name == "error" {
		return c, false, s.failure(a.failure, e.Data)
	}
	s.begun = true
	s.finished = s.finished || a.finish != ""
	if s.tier = cmp.Or(a.tier, s.tier); a.usage != nil {
		a.usage.Tier = s.tier
	}
	c = Chunk{
		Data: e.Data, More: e.More, Malformed: a.malformed || a.badUsage,
		OutputBytes: a.output, Usage: a.usage, Finish: a.finish,
	}
	if s.hideUsage {
		c.Data = s.withoutUsage(e.Data, a)
	}
	return c, true, nil
}

// piece passes on a part of an event that is too long to be held. What its
// first piece tells is noted; all of it counts as output.
func (s *openAIStream) piece(e Event) Chunk {
	c := Chunk{Data: e.Data, Partial: e.Partial, More: e.More, OutputBytes: int64(len(e.Data))}
	if !s.inside {
		a := s.reader.read(e.Data)
		c.Usage, c.Finish = a.usage, a.finish
	}
	s.begun = true
	s.finished = s.finished || c.Finish != ""
	s.inside = e.Partial
	return c
}

// withoutUsage takes out of a chunk what the client did not ask for.
func (s *openAIStream) withoutUsage(data []byte, a answer) []byte {
	if a.choices <= 0 && a.usage != nil { // some leave out the empty list
		return nil
	}
	if a.nullTo == 0 {
		return data
	}
	s.buf = append(append(s.buf[:0], data[:a.nullFrom]...), data[a.nullTo:]...)
	return s.buf
}

// failure is the error that an event reports. As the first event it is no
// different from an error status.
func (s *openAIStream) failure(detail, data []byte) error {
	if detail == nil {
		detail = data
	}
	err := inBandError(detail, data)
	if s.begun {
		err.Billed = BilledPartly
	}
	return err
}

// end judges an answer whose stream has ended without [DONE].
func (s *openAIStream) end() error {
	switch {
	case !s.begun:
		return &UpstreamError{
			Kind: KindBadResponse, Code: "upstream_bad_response",
			Message: "The upstream sent an empty answer.", Billed: BilledUnknown,
		}
	case !s.finished || s.inside:
		return &UpstreamError{
			Kind: KindInterrupted, Code: "stream_interrupted",
			Message: "The upstream's answer ended before it was complete.", Billed: BilledPartly,
		}
	}
	return nil
}

func isDone(data []byte) bool {
	return len(data) >= 6 && len(data) < 16 && string(bytes.TrimSpace(data)) == "[DONE]"
}

// WholeOpenAI reads an answer that came in one piece. Its bytes are passed on
// as they are.
func WholeOpenAI(body []byte) (Chunk, error) {
	var r answerReader
	a := r.read(body)
	switch {
	case a.malformed:
		return Chunk{}, &UpstreamError{
			Kind: KindBadResponse, Code: "upstream_bad_response",
			Message: "The upstream's answer is not valid JSON.", Billed: BilledUnknown,
		}
	case a.failure != nil && a.choices <= 0:
		return Chunk{}, inBandError(a.failure, body)
	case a.choices < 0:
		return Chunk{}, &UpstreamError{
			Kind: KindBadResponse, Code: "upstream_bad_response",
			Message: "The upstream's answer is not a chat completion.", Billed: BilledUnknown,
		}
	}
	return Chunk{
		Data: body, Whole: true, Malformed: a.badUsage,
		OutputBytes: a.output, Usage: a.usage, Finish: a.finish,
	}, nil
}
