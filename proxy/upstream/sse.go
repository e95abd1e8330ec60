package upstream

import (
	"bytes"
	"io"
	"iter"

	"github.com/inference-router/inference-router/translate"
)

const (
	smallBuffer = 4 << 10  // enough for most events: streams are many and mostly idle
	readBuffer  = 32 << 10 // what the buffer of a busy stream grows to
	maxEvent    = 1 << 20  // longer events are handed on in pieces
	maxNoReads  = 100      // reads in a row that may return nothing
)

// readEvents reads server-sent events as the HTML standard defines them. It
// reads only when it has nothing left to hand on. An event longer than 1 MiB
// comes in pieces, so that memory stays bounded; other lines that long are
// dropped. An error of body comes last, after all that was read before it; its
// end is no error.
func readEvents(body io.Reader) iter.Seq2[translate.Event, error] {
	return func(yield func(translate.Event, error) bool) {
		r := eventReader{buf: make([]byte, smallBuffer)}
		for {
			e, ok := r.event()
			for ok {
				next, more := r.event()
				e.More = more
				if !yield(e, nil) {
					return
				}
				e, ok = next, more
			}
			if r.err != nil {
				r.finish(yield)
				return
			}
			r.fill(body)
		}
	}
}

// eventReader cuts a growing buffer into events. The data lines of an event
// are moved together inside the buffer, so events share its memory and stay
// valid until fill.
type eventReader struct {
	buf     []byte
	end     int   // of what has been read into buf
	line    int   // where the line at hand begins
	scan    int   // it does not end before here
	err     error // of the last read
	begun   bool  // past the byte order mark
	afterCR bool  // the last line ended with CR: an LF belongs to it

	name     string
	data     bool // the event at hand has data: buf[from:to]
	from, to int
	pieces   bool // and some of it was handed on already
	inData   bool // the line at hand goes on with data
	dropLine bool // the line at hand is too long, and no data
}

// event returns the next event or comment that is complete in the buffer, or a
// piece of one that is too long for it.
func (r *eventReader) event() (translate.Event, bool) {
	if !r.start() {
		return translate.Event{}, false
	}
	for {
		from, to, ok := r.nextLine()
		switch {
		case !ok:
			return r.piece()
		case r.dropLine:
			r.dropLine = false
		case r.inData:
			r.inData = false
			r.extend(from, to)
		case from == to:
			if e, ok := r.dispatch(); ok {
				return e, true
			}
		case r.buf[from] == ':':
			return r.comment(from+1, to), true
		default:
			r.field(from, to)
		}
	}
}

// start drops a byte order mark. It reports whether that is settled.
func (r *eventReader) start() bool {
	const mark = "\xef\xbb\xbf"
	have := r.buf[:r.end]
	switch {
	case r.begun:
	case bytes.HasPrefix(have, []byte(mark)):
		r.line, r.scan = len(mark), len(mark)
	case r.err == nil && bytes.HasPrefix([]byte(mark), have):
		return false
	}
	r.begun = true
	return true
}

// nextLine steps over the next line and tells where it is, without its end. A
// CR ends a line at once, without waiting for the LF that may follow.
func (r *eventReader) nextLine() (from, to int, ok bool) {
	if r.afterCR && r.line < r.end {
		r.afterCR = false
		if r.buf[r.line] == '\n' {
			r.line++
			r.scan = max(r.scan, r.line)
		}
	}
	rest := r.buf[r.scan:r.end]
	at := bytes.IndexByte(rest, '\n')
	if at >= 0 {
		rest = rest[:at]
	}
	if cr := bytes.IndexByte(rest, '\r'); cr >= 0 {
		at = cr
		r.afterCR = true
	}
	if at < 0 {
		r.scan = r.end
		return 0, 0, false
	}
	from, to = r.line, r.scan+at
	r.line = to + 1
	r.scan = r.line
	return from, to, true
}

// field takes in one line of an event.
func (r *eventReader) field(from, to int) {
	line := r.buf[from:to]
	name, value, _ := bytes.Cut(line, []byte{':'})
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	switch string(name) {
	case "data":
		r.beginData(to - len(value))
		r.extend(to-len(value), to)
	case "event":
		r.name = string(value[:min(len(value), 64)])
	}
}

// beginData begins a line of data, of which the first stays where it is. The
// line feed before any other goes where its field name was, or before.
func (r *eventReader) beginData(at int) {
	if !r.data {
		r.data = true
		r.from, r.to = at, at
		return
	}
	r.buf[r.to] = '\n'
	r.to++
}

// extend moves a part of a line to the end of the data.
func (r *eventReader) extend(from, to int) {
	if r.to == from {
		r.to = to
		return
	}
	r.to += copy(r.buf[r.to:], r.buf[from:to])
}

// comment makes an event of a comment. Inside an event its memory is about to
// be used for the data that follows.
func (r *eventReader) comment(from, to int) translate.Event {
	text := bytes.TrimPrefix(r.buf[from:to], []byte{' '})
	if r.data {
		text = bytes.Clone(text)
	}
	return translate.Event{Comment: true, Data: text}
}

// dispatch ends the event at hand, which may turn out to have no data.
func (r *eventReader) dispatch() (translate.Event, bool) {
	e := translate.Event{Name: r.name, Data: r.buf[r.from:r.to]}
	had := r.data
	r.name, r.data, r.pieces = "", false, false
	r.from, r.to = 0, 0
	return e, had
}

// piece is called when the buffer holds no further line end. It hands on what
// there is of an event that has become too long.
func (r *eventReader) piece() (translate.Event, bool) {
	rest := r.buf[r.line:r.end]
	if !r.inData && len(rest) > 5 && (r.pieces || r.end-r.oldest() >= maxEvent) && string(rest[:5]) == "data:" {
		at := r.line + 5
		if r.buf[at] == ' ' {
			at++
		}
		r.beginData(at)
		r.line, r.inData = at, true
	}
	switch {
	case r.inData:
		r.extend(r.line, r.end)
		r.line, r.scan = r.end, r.end
	case r.dropLine || len(rest) >= maxEvent:
		r.dropLine = true
		r.line, r.scan = r.end, r.end
	}
	if !r.data || r.from == r.to || !r.pieces && !r.inData && r.end-r.from < maxEvent {
		return translate.Event{}, false
	}
	r.pieces = true
	e := translate.Event{Name: r.name, Data: r.buf[r.from:r.to], Partial: true}
	r.from = r.to
	return e, true
}

// oldest is the first place in the buffer that is still needed.
func (r *eventReader) oldest() int {
	if r.data {
		return r.from
	}
	return r.line
}

// fill reads on. Events that were handed out are no longer valid.
func (r *eventReader) fill(body io.Reader) {
	keep := r.oldest()
	size := len(r.buf)
	switch live := r.end - keep; {
	case live == size: // one event fills the buffer
		size *= 2
	case r.end == size && size < readBuffer: // more comes at a time than fits
		size *= 2
	case size > readBuffer && live < smallBuffer:
		size = readBuffer
	}
	buf := r.buf
	if size != len(buf) {
		buf = make([]byte, size)
	}
	r.end = copy(buf, r.buf[keep:r.end])
	r.buf = buf
	r.line -= keep
	r.scan -= keep
	if r.data {
		r.from -= keep
		r.to -= keep
	}
	for range maxNoReads {
		n, err := body.Read(r.buf[r.end:])
		r.end += n
		r.err = err
		if n > 0 || err != nil {
			return
		}
	}
	r.err = io.ErrNoProgress
}

// finish ends the stream: with an event whose blank line never came, or with
// the error of the last read.
func (r *eventReader) finish(yield func(translate.Event, error) bool) {
	if r.err != io.EOF {
		yield(translate.Event{}, r.err)
		return
	}
	switch {
	case r.dropLine || r.line == r.end:
	case r.inData:
		r.extend(r.line, r.end)
	case r.buf[r.line] != ':':
		r.field(r.line, r.end)
	}
	if e, ok := r.dispatch(); ok {
		e.Cut = true
		yield(e, nil)
	}
}
