package upstream

import (
	"bufio"
	"context"
	"io"
	"iter"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/inference-router/inference-router/translate"
)

const (
	frameBuffer  = 8 << 10 // of each running stream
	framePrelude = 4       // bytes of a frame that tell its length
)

// readFrames reads the event-stream frames of a ConverseStream answer. An
// exception among them is an error; so is a frame that is damaged or cut.
func readFrames(ctx context.Context, body io.Reader) iter.Seq2[translate.BedrockEvent, error] {
	return func(yield func(translate.BedrockEvent, error) bool) {
		r := frameReader{in: bufio.NewReaderSize(body, frameBuffer), decoder: eventstream.NewDecoder()}
		for {
			event, err := r.next()
			switch {
			case err == io.EOF:
				return
			case err != nil && ctx.Err() != nil:
				err = context.Cause(ctx)
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

type frameReader struct {
	in      *bufio.Reader
	decoder *eventstream.Decoder
	payload []byte
	begun   bool
}

// next returns the next event, and io.EOF after the last frame.
func (r *frameReader) next() (translate.BedrockEvent, error) {
	size, err := r.length()
	if err != nil {
		return translate.BedrockEvent{}, err
	}
	if size > maxEvent {
		return translate.BedrockEvent{}, damaged("The upstream sent an event that is too long.", nil)
	}
	message, err := r.decoder.Decode(r.in, r.payload[:0])
	if err != nil {
		if isReset(err) || isTimeout(err) {
			return translate.BedrockEvent{}, streamError(err, r.begun)
		}
		return translate.BedrockEvent{}, damaged("The upstream sent a damaged event.", err)
	}
	r.begun, r.payload = true, message.Payload
	if err := frameError(message); err != nil {
		return translate.BedrockEvent{}, err
	}
	return translate.BedrockEvent{Type: frameHeader(message, ":event-type"), Payload: message.Payload, More: r.more()}, nil
}

// length peeks at the next frame's length in bytes.
func (r *frameReader) length() (uint32, error) {
	head, err := r.in.Peek(framePrelude)
	switch {
	case err == io.EOF && len(head) == 0:
		return 0, io.EOF
	case err == io.EOF:
		return 0, streamError(io.ErrUnexpectedEOF, r.begun)
	case err != nil:
		return 0, streamError(err, r.begun)
	}
	return uint32(head[0])<<24 | uint32(head[1])<<16 | uint32(head[2])<<8 | uint32(head[3]), nil
}

// more reports whether the whole next frame is in memory.
func (r *frameReader) more() bool {
	if r.in.Buffered() < framePrelude {
		return false
	}
	size, err := r.length()
	return err == nil && int64(size) <= int64(r.in.Buffered())
}

// frameError is the error that a frame tells of, if it does.
func frameError(m eventstream.Message) error {
	switch frameHeader(m, ":message-type") {
	case "exception":
		return translate.BedrockError(frameHeader(m, ":exception-type"), http.StatusOK, m.Payload)
	case "error":
		e := translate.BedrockError(frameHeader(m, ":error-code"), http.StatusOK, nil)
		e.Err = &translate.BedrockFault{Name: frameHeader(m, ":error-code"), Message: frameHeader(m, ":error-message")}
		return e
	}
	return nil
}

func frameHeader(m eventstream.Message, name string) string {
	v, ok := m.Headers.Get(name).(eventstream.StringValue)
	if !ok {
		return ""
	}
	return string(v)
}

func damaged(message string, err error) *translate.UpstreamError {
	return &translate.UpstreamError{Kind: translate.KindBadResponse, Code: "upstream_bad_chunk", Message: message, Billed: translate.BilledPartly, Err: err}
}
