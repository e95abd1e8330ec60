package upstream

import (
	"bytes"
	"cmp"
	"context"
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

// OpenAIConfig says where an OpenAI-compatible API is.
type OpenAIConfig struct {
	Name     string // of the upstream, for messages about the configuration
	Provider string // openai, groq, azure, …
	// BaseURL is what an OpenAI client calls its base URL; a query in it is
	// kept. For Azure it may also be the resource's or the deployment's root.
	BaseURL string
	APIKey  translate.Secret // empty: no credential is sent
	// ForwardClientKey sends the caller's own credential in the place of
	// APIKey.
	ForwardClientKey bool
	Headers          map[string]string // sent with each request
	Connect          time.Duration     // until there is a connection; 0 = 2 s
	TLS              *tls.Config       // authorities and a certificate of our own; nil = the system's
	// LimitField is the field it reads an output limit from; "" = max_tokens.
	LimitField string
}

// OpenAI passes requests through to an OpenAI-compatible API.
type OpenAI struct {
	via       connections
	base      *url.URL
	chat      *url.URL
	header    http.Header // shared by all requests, never changed
	keyHeader string      // the credential's header; "" for Authorization
	clientKey bool

	limitField string
	secrets    *strings.Replacer      // hides the key and the address in its words
	learnt     atomic.Pointer[lesson] // what it has refused
}

// lesson is what an upstream has refused by name, and is not sent again.
type lesson struct {
	noStreamOptions bool
	limit           string // the one field it takes an output limit in; "" while none was refused
}

// NewOpenAI makes an upstream of an OpenAI-compatible API.
func NewOpenAI(c OpenAIConfig) (*OpenAI, error) {
	base, err := parseBaseURL(c.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: base_url: %w", c.Name, err)
	}
	u := &OpenAI{via: newConnections(base, c.Connect, c.TLS), clientKey: c.ForwardClientKey}
	if isAzure(c.Provider, base) {
		azureBase(base)
		u.keyHeader = "Api-Key"
	}
	u.base = base
	u.learnt.Store(&lesson{})
	u.limitField = cmp.Or(c.LimitField, "max_tokens")
	hide := []string{base.Host, "[hidden]", base.Hostname(), "[hidden]"}
	if c.APIKey != "" {
		hide = append([]string{c.APIKey.Reveal(), "[hidden]"}, hide...)
	}
	u.secrets = strings.NewReplacer(hide...)
	u.chat = u.endpoint("/chat/completions")
	u.header = http.Header{
		"Content-Type":    {"application/json"},
		"Accept-Encoding": {"identity"},
		"User-Agent":      {"inference-router"},
	}
	if !isHeader("Authorization", c.APIKey.Reveal()) {
		return nil, fmt.Errorf("upstream %s: api_key: no key has a line break or another control character in it", c.Name)
	}
	if c.APIKey != "" && !c.ForwardClientKey {
		u.setKey(u.header, c.APIKey)
	}
	if err := setHeaders(u.header, c.Name, c.Headers); err != nil {
		return nil, err
	}
	return u, nil
}

// isHeader reports whether an operator may set such a header: framing and the
// connection are net/http's.
func isHeader(name, value string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "", "Host", "Content-Length", "Transfer-Encoding", "Connection", "Te", "Trailer", "Upgrade", "Expect":
		return false
	}
	plain := func(r rune) bool {
		return r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	return strings.Trim(name, "-_") != "" && !strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) &&
		!strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// setHeaders sets an upstream's configured headers.
func setHeaders(h http.Header, upstream string, headers map[string]string) error {
	for name, value := range headers {
		if !isHeader(name, value) {
			return fmt.Errorf("upstream %s: headers: %q cannot be set", upstream, name)
		}
		h.Set(name, value)
	}
	return nil
}

// parseBaseURL checks the root under which the API is.
func parseBaseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("want a URL such as https://api.openai.com/v1")
	case u.User != nil:
		return nil, fmt.Errorf("a credential in the URL would be logged by others: use api_key")
	case u.Fragment != "":
		return nil, fmt.Errorf("a URL with a fragment is no base URL")
	case strings.Contains(u.RawQuery, " "):
		return nil, fmt.Errorf("a space in a URL is written %%20")
	}
	u.Path, u.RawPath = withoutRoute(u.Path), withoutRoute(u.RawPath)
	return u, nil
}

// withoutRoute takes off the route that some paste along with the base URL.
func withoutRoute(path string) string {
	path = strings.TrimRight(path, "/")
	for _, route := range []string{"/chat/completions", "/embeddings", "/responses", "/completions"} {
		if root, ok := strings.CutSuffix(path, route); ok {
			return strings.TrimRight(root, "/")
		}
	}
	return path
}

func isAzure(provider string, u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	return provider == "azure" ||
		strings.HasSuffix(host, ".openai.azure.com") || strings.HasSuffix(host, ".cognitiveservices.azure.com")
}

// azureBase completes an Azure URL: a resource's root gets the path of the
// API that needs no version, a deployment's the version it needs.
func azureBase(u *url.URL) {
	switch {
	case u.Path == "":
		u.Path = "/openai/v1"
	case strings.Contains(u.Path, "/deployments/") && !u.Query().Has("api-version"):
		q := u.Query()
		q.Set("api-version", "2024-10-21")
		u.RawQuery = q.Encode()
	}
}

// endpoint is a path under the base URL.
func (u *OpenAI) endpoint(path string) *url.URL {
	e := *u.base
	e.Path += path
	if e.RawPath != "" {
		e.RawPath += path
	}
	return &e
}

func (u *OpenAI) setKey(h http.Header, key translate.Secret) {
	if u.keyHeader != "" {
		h.Set(u.keyHeader, key.Reveal())
		return
	}
	h.Set("Authorization", "Bearer "+key.Reveal())
}

// Close gives up the connections that are idle.
func (u *OpenAI) Close() { u.via.CloseIdleConnections() }

// forwarded are the caller's headers that may go on, and whether only with the
// caller's own key: with ours they would choose among our projects.
//
// Idempotency-Key is written in another case than net/http looks for: it would
// take it for leave to repeat requests that may have been billed.
var forwarded = map[string]struct {
	as      string
	ownOnly bool
}{
	"Traceparent":         {as: "Traceparent"},
	"Tracestate":          {as: "Tracestate"},
	"Openai-Beta":         {as: "Openai-Beta"},
	"Idempotency-Key":     {as: "idempotency-key"},
	"Openai-Organization": {as: "Openai-Organization", ownOnly: true},
	"Openai-Project":      {as: "Openai-Project", ownOnly: true},
}

// headers are those of one request; mostly the shared ones.
func (u *OpenAI) headers(key translate.Secret, forward map[string]string) http.Header {
	if !u.clientKey && len(forward) == 0 {
		return u.header
	}
	h := u.header.Clone()
	for name, value := range forward {
		f, ok := forwarded[http.CanonicalHeaderKey(name)]
		if ok && (!f.ownOnly || u.clientKey) && h[f.as] == nil {
			h[f.as] = []string{value}
		}
	}
	if u.clientKey && key != "" {
		u.setKey(h, key)
	}
	return h
}

// Chat sends r and passes on the answer. Where a stream was asked for and the
// upstream answers in one piece, that is made a stream.
func (u *OpenAI) Chat(ctx context.Context, r *translate.Request) translate.Chunks {
	return func(yield func(translate.Chunk, error) bool) {
		cancel := func() {} // closing a whole answer's body is enough
		if r.Stream {
			ctx, cancel = context.WithCancel(ctx)
			defer cancel()
		}
		resp, err := u.send(ctx, r)
		if err != nil {
			yield(translate.Chunk{}, err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		kind, body := answerKind(resp, r.Stream)
		resp.Body = body
		a := answer{
			resp:    resp,
			options: translate.OpenAIOptions{HideUsage: !r.IncludeUsage && !r.IncludeCost, RequestID: requestID(resp.Header), Header: aboutLimits(resp.Header)},
		}
		switch stream := r.Stream; {
		case kind == "sse" && stream:
			a.relay(ctx, cancel, yield)
		case kind == "sse":
			yield(translate.Chunk{}, badResponse("The upstream sent a stream where a whole answer was asked for.", nil))
		case kind == "json":
			a.whole(ctx, stream, yield)
		default:
			e := badResponse("The upstream's answer is not JSON.", nil)
			if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
				e.Billed = translate.BilledNothing // a login page: no model has been asked
			}
			yield(translate.Chunk{}, e)
		}
	}
}

// maxRefusals is how many fields of a request an upstream may refuse, one call
// each, before that is the answer.
const maxRefusals = 3

// send posts the request and returns an answer with a good status. An upstream
// that refuses stream_options or one of the two limit fields by name is asked
// again without, and from then on.
func (u *OpenAI) send(ctx context.Context, r *translate.Request) (*http.Response, error) {
	known := *u.learnt.Load()
	r = known.apply(r)
	header := u.headers(r.ClientKey, r.Forward)
	for calls := 1; ; calls++ {
		resp, sent, err := send(ctx, u.via, u.chat, header, r.Body)
		if err != nil {
			return nil, u.hide(err)
		}
		if resp.StatusCode/100 == 2 {
			if sent {
				r.Written()
			}
			if calls > 1 {
				u.learnt.Store(&known)
			}
			return resp, nil
		}
		e := u.statusError(resp)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if calls > maxRefusals || !known.learn(e, r, u.limitField) {
			return nil, e
		}
		r = known.apply(r)
	}
}

// learn notes which of our own fields e refuses. It reports false when that is
// none, or known already.
func (l *lesson) learn(e *translate.UpstreamError, r *translate.Request, limitField string) bool {
	before := *l
	both := r.Raw("max_tokens") != nil && r.Raw("max_completion_tokens") != nil
	switch refused := e.RefusedField(r); {
	case both && e.RefusesTwoLimits():
		l.limit = limitField
	case refused == "max_tokens":
		l.limit = "max_completion_tokens"
	case refused == "max_completion_tokens":
		l.limit = "max_tokens"
	case refused == "stream_options", e.Kind == translate.KindInvalid && r.Raw("stream_options") != nil && bytes.Contains(e.Body, []byte("stream_options")):
		l.noStreamOptions = true
	}
	return *l != before
}

// apply is r as the upstream takes it.
func (l *lesson) apply(r *translate.Request) *translate.Request {
	if !l.noStreamOptions && l.limit == "" {
		return r
	}
	e := translate.Edit{NoStreamOptions: l.noStreamOptions, KeepUsageField: true, LimitField: l.limit}
	e.LimitAlone = l.limit != ""
	return r.For(e)
}

// hide masks the key and the address in the cause of a failed call.
func (u *OpenAI) hide(err error) error {
	var e *translate.UpstreamError
	if errors.As(err, &e) && e.Words == "" && e.Err != nil {
		e.Words = u.secrets.Replace(e.Err.Error())
	}
	return err
}

// statusError reads an error answer and closes it.
func (u *OpenAI) statusError(resp *http.Response) *translate.UpstreamError {
	defer func() { _ = resp.Body.Close() }()
	body, err := readAll(resp, maxErrorBody)
	if err != nil {
		body = nil
	}
	e := translate.OpenAIError(resp.StatusCode, retryAfter(resp.Header), resp.Header.Get("Content-Type"), body)
	e.Words = u.secrets.Replace(e.Words)
	if e.Kind == translate.KindAuth && u.clientKey { // the caller's own mistake, then
		e.Kind, e.Type, e.Code = translate.KindInvalid, "authentication_error", "invalid_api_key"
		e.Message = "The upstream refused the API key."
	}
	return e
}

// answer is a good status and what follows it.
type answer struct {
	resp    *http.Response
	options translate.OpenAIOptions
}

// whole passes on an answer in one piece; as a stream, if that was asked for.
func (a *answer) whole(ctx context.Context, stream bool, yield func(translate.Chunk, error) bool) {
	body, err := readAll(a.resp, maxAnswer)
	var c translate.Chunk
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err != nil:
		err = wholeError(err)
	default:
		c, err = translate.WholeOpenAI(body)
	}
	if err == nil && stream {
		translate.SplitOpenAI(c, a.options)(yield)
		return
	}
	if err == nil {
		c.Head = &translate.Head{RequestID: a.options.RequestID, Header: a.options.Header}
	}
	yield(c, err)
}

// relay passes on a stream. Once the answer is complete, the rest is read so
// that the connection can be used again.
func (a *answer) relay(ctx context.Context, cancel func(), yield func(translate.Chunk, error) bool) {
	body, _, err := decoded(a.resp)
	if err != nil {
		yield(translate.Chunk{}, badResponse("The upstream's answer cannot be read.", err))
		return
	}
	for c, err := range translate.FromOpenAI(judged(ctx, readEvents(body)), a.options) {
		if !yield(c, err) || err != nil {
			return
		}
		if c.Done {
			drain(a.resp.Body, cancel)
			return
		}
	}
}
