package upstream

import (
	"context"
	"iter"
	"net/http"

	"github.com/inference-router/inference-router/translate"
)

type eventSeq = iter.Seq2[translate.Event, error]

// exchange is one request and its answer, whatever the dialect.
type exchange struct {
	post    func(ctx context.Context) (*http.Response, error)
	refused func(resp *http.Response) *translate.UpstreamError // reads an error answer and closes it
	stream  bool
	events  func(events eventSeq, requestID string) translate.Chunks
	whole   func(body []byte, requestID string) (translate.Chunk, error)
}

// chunks sends the request when it is ranged over.
func (x exchange) chunks(ctx context.Context) translate.Chunks {
	return func(yield func(translate.Chunk, error) bool) {
		cancel := func() {} // closing a whole answer's body is enough
		if x.stream {
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
		}
		resp, err := x.post(ctx)
		if err != nil {
			yield(translate.Chunk{}, err)
			return
		}
		if resp.StatusCode/100 != 2 {
			refused := x.refused(resp)
			if ctx.Err() != nil {
				yield(translate.Chunk{}, context.Cause(ctx))
				return
			}
			yield(translate.Chunk{}, refused)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		kind, body := answerKind(resp, x.stream)
		resp.Body = body
		switch {
		case kind == "sse" && x.stream:
			x.relay(ctx, cancel, resp, yield)
		case kind == "sse":
			yield(translate.Chunk{}, badResponse("The upstream sent a stream where a whole answer was asked for.", nil))
		case kind == "json" && x.stream:
			yield(translate.Chunk{}, badResponse("The upstream sent a whole answer where a stream was asked for.", nil))
		case kind == "json":
			x.all(ctx, resp, yield)
		default:
			yield(translate.Chunk{}, badResponse("The upstream's answer is not JSON.", nil))
		}
	}
}

// all reads an answer in one piece.
func (x exchange) all(ctx context.Context, resp *http.Response, yield func(translate.Chunk, error) bool) {
	answer, err := readAll(resp, maxAnswer)
	switch {
	case ctx.Err() != nil:
		yield(translate.Chunk{}, context.Cause(ctx))
	case err != nil:
		yield(translate.Chunk{}, wholeError(err))
	default:
		yield(x.whole(answer, requestID(resp.Header)))
	}
}

// relay reads a stream. Once the answer is complete, the rest is read so that
// the connection can be used again.
func (x exchange) relay(ctx context.Context, cancel func(), resp *http.Response, yield func(translate.Chunk, error) bool) {
	body, _, err := decoded(resp)
	if err != nil {
		yield(translate.Chunk{}, badResponse("The upstream's answer cannot be read.", err))
		return
	}
	for c, err := range x.events(judged(ctx, readEvents(body)), requestID(resp.Header)) {
		if !yield(c, err) || err != nil {
			return
		}
		if c.Done {
			drain(resp.Body, cancel)
			return
		}
	}
}
