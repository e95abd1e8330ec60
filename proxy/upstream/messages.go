package upstream

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/translate"
)

// Messages calls a model through Anthropic's Messages API: requests of that
// dialect as they came, chat requests as Anthropic translates them.
type Messages struct {
	*Anthropic
	count *url.URL
}

// NewMessages makes an upstream of a Messages API that takes requests of that
// dialect as they come.
func NewMessages(c AnthropicConfig) (*Messages, error) {
	a, err := NewAnthropic(c)
	if err != nil {
		return nil, err
	}
	return &Messages{Anthropic: a, count: a.messages.JoinPath("count_tokens")}, nil
}

// Chat sends r in its own dialect, if that is Messages, else translated.
func (m *Messages) Chat(ctx context.Context, r *translate.Request) translate.Chunks {
	if r.Dialect != translate.DialectMessages {
		return m.Anthropic.Chat(ctx, r)
	}
	r = r.WithoutForeignThoughts()
	return exchange{
		post: func(ctx context.Context) (*http.Response, error) {
			return post(ctx, m.transport, m.messages, m.nativeHeaders(r), r.Body)
		},
		refused: m.nativeError,
		stream:  r.Stream,
		events: func(events eventSeq, id string) translate.Chunks {
			return translate.FromNative(translate.DialectMessages, events, id)
		},
		whole: func(body []byte, id string) (translate.Chunk, error) {
			return translate.WholeNative(translate.DialectMessages, body, id)
		},
	}.chunks(ctx)
}

// CountTokens asks the API how many tokens a request of its dialect has.
func (m *Messages) CountTokens(ctx context.Context, r *translate.Request) (int64, error) {
	resp, err := post(ctx, m.transport, m.count, m.nativeHeaders(r), r.WithoutForeignThoughts().Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode/100 != 2 {
		return 0, m.nativeError(resp)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := readAll(resp, maxErrorBody)
	if err != nil {
		return 0, wholeError(err)
	}
	n := gjson.GetBytes(body, "input_tokens")
	if n.Type != gjson.Number || n.Num < 0 {
		return 0, badResponse("The upstream's count of tokens makes no sense.", nil)
	}
	return n.Int(), nil
}

// nativeHeaders are those of a request in the API's own dialect: its version
// and betas are the client's, for they belong to the body.
func (m *Messages) nativeHeaders(r *translate.Request) http.Header {
	h := m.headers(r)
	version, betas := r.Forward["Anthropic-Version"], r.Forward["Anthropic-Beta"]
	if version == "" && betas == "" {
		return h
	}
	h = h.Clone()
	if version != "" {
		h["Anthropic-Version"] = []string{version}
	}
	if betas != "" {
		if own := h.Get("Anthropic-Beta"); own != "" {
			betas = own + "," + strings.TrimSpace(betas)
		}
		h["Anthropic-Beta"] = []string{betas}
	}
	return h
}

// nativeError reads an error answer and closes it. What concerns the request
// itself is kept word for word: clients go by it.
func (m *Messages) nativeError(resp *http.Response) *translate.UpstreamError {
	defer func() { _ = resp.Body.Close() }()
	body, err := readAll(resp, maxErrorBody)
	if err != nil {
		body = nil
	}
	e := translate.AnthropicError(resp.StatusCode, retryAfter(resp.Header), body)
	if e.Kind == translate.KindAuth && m.config.ForwardClientKey { // the caller's own mistake, then
		e.Kind = translate.KindInvalid
	}
	if e.Kind == translate.KindInvalid && len(body) > 0 && gjson.ValidBytes(body) {
		e.Body, e.ContentType = body, "application/json"
	}
	return e
}
