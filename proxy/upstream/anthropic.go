package upstream

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/translate"
)

// AnthropicConfig says which model behind the Messages API, and as whom to
// call it.
type AnthropicConfig struct {
	Name  string // of the upstream, for messages about the configuration
	Model string // as the API calls it

	Endpoint string           // the root, to which /v1/messages is added; "" = https://api.anthropic.com
	APIKey   translate.Secret // empty: no credential is sent
	// ForwardClientKey sends the caller's own credential in the place of
	// APIKey.
	ForwardClientKey bool
	// Bearer sends the credential as a bearer token, for OAuth tokens and for
	// other servers of this API, in the place of x-api-key.
	Bearer  bool
	Version string            // anthropic-version; "" = 2023-06-01
	Betas   []string          // anthropic-beta
	Headers map[string]string // sent with each request
	Connect time.Duration     // until there is a connection; 0 = 2 s
	TLS     *tls.Config       `json:"-"` // authorities and a certificate of our own; nil = the system's

	Capabilities translate.CapabilityOverrides
	Translate    translate.Options
	// MaxTokens is the output limit of requests without one; 0 = the most the
	// model gives, or 8192 when that is not known.
	MaxTokens int64
}

// The API's root and the version of it that we speak.
const (
	anthropicRoot    = "https://api.anthropic.com"
	anthropicVersion = "2023-06-01"
)

// Anthropic calls one model through Anthropic's Messages API.
type Anthropic struct {
	config    AnthropicConfig
	transport transport
	messages  *url.URL
	header    http.Header // shared by all requests, never changed

	options atomic.Pointer[translate.AnthropicOptions] // replaced when the model turns out to lack something
}

// NewAnthropic makes an upstream of a model behind the Messages API. It
// touches no network.
func NewAnthropic(c AnthropicConfig) (*Anthropic, error) {
	root, err := parseBaseURL(cmp.Or(c.Endpoint, anthropicRoot))
	if err != nil {
		return nil, fmt.Errorf("upstream %s: endpoint: %w", c.Name, err)
	}
	switch {
	case strings.TrimSpace(c.Model) == "":
		return nil, fmt.Errorf("upstream %s: model: none is named", c.Name)
	case strings.HasSuffix(root.Path, "/v1"):
		return nil, fmt.Errorf("upstream %s: endpoint: want the root without /v1", c.Name)
	}
	if err := c.Capabilities.Validate(); err != nil {
		return nil, fmt.Errorf("upstream %s: capabilities: %w", c.Name, err)
	}
	root.Path += "/v1/messages"
	a := &Anthropic{config: c, transport: newTransport(c.Connect, c.TLS), messages: root}
	a.header = http.Header{
		"Content-Type":      {"application/json"},
		"Accept-Encoding":   {"identity"},
		"User-Agent":        {"inference-router"},
		"Anthropic-Version": {cmp.Or(c.Version, anthropicVersion)},
	}
	if len(c.Betas) > 0 {
		a.header.Set("Anthropic-Beta", strings.Join(c.Betas, ","))
	}
	if !isHeader("X-Api-Key", c.APIKey.Reveal()) {
		return nil, fmt.Errorf("upstream %s: api_key: no key has a line break or another control character in it", c.Name)
	}
	if c.APIKey != "" && !c.ForwardClientKey {
		a.setKey(a.header, c.APIKey)
	}
	if err := setHeaders(a.header, c.Name, c.Headers); err != nil {
		return nil, err
	}
	a.options.Store(&translate.AnthropicOptions{
		Options:      c.Translate,
		Capabilities: c.Capabilities.Apply("anthropic", translate.LookupCapabilities("anthropic", c.Model)),
		MaxTokens:    c.MaxTokens,
	})
	return a, nil
}

func (a *Anthropic) setKey(h http.Header, key translate.Secret) {
	if a.config.Bearer {
		h.Set("Authorization", "Bearer "+key.Reveal())
		return
	}
	h.Set("X-Api-Key", key.Reveal())
}

// headers are those of one request; mostly the shared ones. Of the caller's own
// only those of a trace mean something here.
func (a *Anthropic) headers(r *translate.Request) http.Header {
	if !a.config.ForwardClientKey && len(r.Forward) == 0 {
		return a.header
	}
	h := a.header.Clone()
	for _, name := range []string{"Traceparent", "Tracestate"} {
		if value := r.Forward[name]; value != "" && h[name] == nil {
			h[name] = []string{value}
		}
	}
	if a.config.ForwardClientKey && r.ClientKey != "" {
		a.setKey(h, r.ClientKey)
	}
	return h
}

// Close gives up the connections that are idle.
func (a *Anthropic) Close() { a.transport.CloseIdleConnections() }

// Chat puts r to the model and translates the answer. Where a stream was asked
// for and the upstream answers in one piece, that is made a stream.
func (a *Anthropic) Chat(ctx context.Context, r *translate.Request) translate.Chunks {
	return func(yield func(translate.Chunk, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		q, resp, err := a.send(ctx, r.For(translate.Edit{Model: a.config.Model}))
		if err != nil {
			yield(translate.Chunk{}, err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		kind, body := answerKind(resp, r.Stream)
		resp.Body = body
		switch {
		case kind == "sse" && r.Stream:
			a.relay(ctx, cancel, q, resp, a.head(r, resp), yield)
		case kind == "json":
			a.whole(ctx, q, resp, a.head(r, resp), yield)
		case kind == "sse":
			yield(translate.Chunk{}, badResponse("The upstream sent a stream where a whole answer was asked for.", nil))
		default:
			yield(translate.Chunk{}, badResponse("The upstream's answer is not JSON.", nil))
		}
	}
}

// head is what the answer says of itself.
func (a *Anthropic) head(r *translate.Request, resp *http.Response) translate.AnswerHead {
	return translate.AnswerHead{
		ID: "chatcmpl-" + rand.Text(), Model: cmp.Or(r.AnswerModel, "anthropic/"+a.config.Model),
		Created: time.Now().Unix(), RequestID: requestID(resp.Header),
	}
}

// send translates and posts the request and returns an answer with a good
// status. Where the model turns out to lack something we took it to have, it
// is asked again without, and what it lacks is remembered.
func (a *Anthropic) send(ctx context.Context, r *translate.Request) (*translate.AnthropicRequest, *http.Response, error) {
	first := a.options.Load()
	options := *first
	for again := maxRelaxations; ; again-- {
		q, resp, err := a.try(ctx, r, options)
		var refused *translate.UpstreamError
		if err == nil && options.Capabilities != first.Capabilities {
			kept := options
			kept.Options = first.Options
			a.options.Store(&kept)
		}
		if err == nil || again == 0 || !errors.As(err, &refused) {
			return q, resp, err
		}
		relaxed, ok := options.Relax(refused)
		if !ok {
			return nil, nil, err
		}
		options = relaxed
	}
}

func (a *Anthropic) try(ctx context.Context, r *translate.Request, o translate.AnthropicOptions) (*translate.AnthropicRequest, *http.Response, error) {
	q, err := translate.ToAnthropic(r, o)
	if err != nil {
		return nil, nil, err
	}
	resp, err := post(ctx, a.transport, a.messages, a.headers(r), q.Body)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode/100 == 2 {
		q.Body = nil // it is sent; a stream may last
		return q, resp, nil
	}
	e := a.statusError(resp)
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	return nil, nil, e
}

// statusError reads an error answer and closes it.
func (a *Anthropic) statusError(resp *http.Response) *translate.UpstreamError {
	defer func() { _ = resp.Body.Close() }()
	body, err := readAll(resp, maxErrorBody)
	if err != nil {
		body = nil
	}
	e := translate.AnthropicError(resp.StatusCode, retryAfter(resp.Header), body)
	if e.Kind == translate.KindAuth && a.config.ForwardClientKey { // the caller's own mistake, then
		e.Kind, e.Type, e.Code = translate.KindInvalid, "authentication_error", "invalid_api_key"
		e.Message = "The upstream refused the API key."
	}
	return e
}

// whole translates an answer in one piece; to a stream, if that was asked for.
func (a *Anthropic) whole(ctx context.Context, q *translate.AnthropicRequest, resp *http.Response, head translate.AnswerHead, yield func(translate.Chunk, error) bool) {
	answer, err := readAll(resp, maxAnswer)
	switch {
	case ctx.Err() != nil:
		yield(translate.Chunk{}, context.Cause(ctx))
	case err != nil:
		yield(translate.Chunk{}, wholeError(err))
	case q.Stream:
		translate.FromAnthropicStream(q, translate.AnthropicEvents(answer), head)(yield)
	default:
		yield(translate.FromAnthropic(q, answer, head))
	}
}

// relay translates a stream. Once the answer is complete, the rest is read so
// that the connection can be used again.
func (a *Anthropic) relay(ctx context.Context, cancel func(), q *translate.AnthropicRequest, resp *http.Response, head translate.AnswerHead, yield func(translate.Chunk, error) bool) {
	body, _, err := decoded(resp)
	if err != nil {
		yield(translate.Chunk{}, badResponse("The upstream's answer cannot be read.", err))
		return
	}
	for c, err := range translate.FromAnthropicStream(q, judged(ctx, readEvents(body)), head) {
		if !yield(c, err) || err != nil {
			return
		}
		if c.Done {
			drain(resp.Body, cancel)
			return
		}
	}
}
