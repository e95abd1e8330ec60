package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/bedrock"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/inference-router/inference-router/translate"
)

// Of the AWS SDK, Bedrock uses credentials, endpoint resolution, signing and
// the clock-skew correction, through the ordinary client. It does not use the
// typed requests and answers: two steps of the client's middleware are
// replaced, so that our own JSON goes out and the raw answer comes back. The
// typed way changes numbers in tool schemas and arguments, repeats a content
// block where it meets an unknown one, takes a stream cut in half for a
// complete one, and costs five times the time: 80 µs against 15 µs a call over
// the bare signature, and 8.6 µs against 2 µs an event. The client's retries are
// off: they hide throttling for seconds, and trying again is the proxy's.

// BedrockConfig says which model on Bedrock, and as whom to call it.
type BedrockConfig struct {
	Name  string // of the upstream, for messages about the configuration
	Model string // a model id, inference profile id or ARN, as it is

	Region   string // "" = of the model's ARN, else of the environment or profile
	Profile  string // in the shared AWS configuration; "" = the default chain
	Endpoint string // another root, such as https://vpce-….amazonaws.com; "" = AWS's own
	// ControlEndpoint is the root of the control plane, asked about
	// application inference profiles; "" = AWS's own.
	ControlEndpoint string
	// APIKey is a Bedrock API key; "" = AWS_BEARER_TOKEN_BEDROCK, else AWS
	// credentials.
	APIKey translate.Secret
	// Credentials replaces the default chain; nil keeps it.
	Credentials aws.CredentialsProvider

	Headers map[string]string // sent with each request
	Connect time.Duration     // until there is a connection; 0 = 2 s

	Capabilities translate.CapabilityOverrides
	Translate    translate.Options
	Guardrail    translate.Guardrail
	// SendMetadata passes metadata and user on to AWS's invocation logs.
	SendMetadata bool
}

// Bedrock calls one model through Converse.
type Bedrock struct {
	config      BedrockConfig
	transport   *http.Transport
	client      *bedrockruntime.Client
	control     *bedrock.Client
	credentials *knownCredentials
	images      *imageFetcher // nil when remote images are not allowed

	caps     atomic.Pointer[translate.Capabilities] // nil until the model is known
	askAgain atomic.Int64                           // unix seconds; not before may the profile be asked about
}

// NewBedrock makes an upstream of a model on Bedrock. It touches no network:
// credentials are fetched when the first request needs them.
func NewBedrock(c BedrockConfig) (*Bedrock, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", c.Name, err)
	}
	b := &Bedrock{config: c, transport: newTransport(c.Connect)}
	shared, err := loadAWS(c)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", c.Name, err)
	}
	if shared.Credentials != nil {
		b.credentials = &knownCredentials{from: shared.Credentials}
		b.credentials.cache = aws.NewCredentialsCache(aws.CredentialsProviderFunc(b.credentials.fetch))
		shared.Credentials = b.credentials.cache
	}
	b.client = bedrockruntime.NewFromConfig(shared, b.runtimeOptions)
	b.control = bedrock.NewFromConfig(shared, func(o *bedrock.Options) {
		o.HTTPClient = awshttp.NewBuildableClient().WithTimeout(profileTimeout)
		if c.ControlEndpoint != "" {
			o.BaseEndpoint = aws.String(c.ControlEndpoint)
		}
	})
	if c.Translate.RemoteImages {
		b.images = newImageFetcher(c.Translate.ImageHosts)
	}
	if !isOpaque(c.Model) {
		b.knowModel(c.Model)
	}
	return b, nil
}

func (c BedrockConfig) check() error {
	switch {
	case strings.TrimSpace(c.Model) == "":
		return errors.New("model: a model id, inference profile or ARN is missing")
	case strings.ContainsAny(c.Model, " \t\r\n%"):
		return fmt.Errorf("model: %q is no model id: it must not be escaped", c.Model)
	}
	if c.Endpoint != "" {
		if _, err := parseBaseURL(c.Endpoint); err != nil {
			return fmt.Errorf("endpoint: %w", err)
		}
	}
	for name, value := range c.Headers {
		if name == "" || strings.ContainsAny(name+value, "\r\n\x00") {
			return fmt.Errorf("headers: %q is not a header", name)
		}
	}
	if err := c.Capabilities.Validate(); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// loadAWS reads the shared AWS configuration.
func loadAWS(c BedrockConfig) (aws.Config, error) {
	var options []func(*config.LoadOptions) error
	region := c.Region
	if region == "" {
		region = arnRegion(c.Model)
	}
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	if c.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(c.Profile))
	}
	if c.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(c.Credentials))
	}
	shared, err := config.LoadDefaultConfig(context.Background(), options...)
	if err != nil {
		return shared, fmt.Errorf("read the AWS configuration: %w", err)
	}
	if shared.Region == "" {
		return shared, errors.New("region: none is set here, in AWS_REGION or in the profile")
	}
	return shared, nil
}

// arnRegion is the region in an ARN; "" when model is none.
func arnRegion(model string) string {
	parts := strings.SplitN(model, ":", 6)
	if len(parts) < 6 || parts[0] != "arn" {
		return ""
	}
	return parts[3]
}

func (b *Bedrock) runtimeOptions(o *bedrockruntime.Options) {
	c := b.config
	o.Retryer = aws.NopRetryer{}
	o.RetryMaxAttempts = 1
	if c.Endpoint != "" {
		o.BaseEndpoint = aws.String(c.Endpoint)
	}
	if c.APIKey != "" {
		o.BearerAuthTokenProvider = bearer.StaticTokenProvider{Token: bearer.Token{Value: c.APIKey.Reveal()}}
		o.AuthSchemePreference = []string{"httpBearerAuth"}
	}
	if c.APIKey == "" && (c.Profile != "" || c.Credentials != nil) {
		o.AuthSchemePreference = []string{"sigv4"} // over an API key in the environment
	}
	if strings.HasPrefix(c.Endpoint, "http:") {
		o.BearerAuthSigner = plainBearer{}
	}
}

// plainBearer puts a bearer token on requests to an http endpoint, which the
// SDK's own signer refuses. The operator has chosen such an endpoint.
type plainBearer struct{}

func (plainBearer) SignWithBearerToken(_ context.Context, t bearer.Token, m bearer.Message) (bearer.Message, error) {
	req, ok := m.(*smithyhttp.Request)
	if !ok {
		return nil, fmt.Errorf("sign with a bearer token: unexpected %T", m)
	}
	signed := req.Clone()
	signed.Header.Set("Authorization", "Bearer "+t.Value)
	return signed, nil
}

// knownCredentials marks the errors of a provider, so that they are told apart
// from those of the call, and can be made to forget what it has.
type knownCredentials struct {
	from  aws.CredentialsProvider
	cache *aws.CredentialsCache
}

type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "get AWS credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

func (p *knownCredentials) fetch(ctx context.Context) (aws.Credentials, error) {
	c, err := p.from.Retrieve(ctx)
	if err != nil {
		return c, &credentialsError{err}
	}
	return c, nil
}

// invalidate makes the next call fetch new credentials. The SDK's own chain
// keeps a cache of its own.
func (p *knownCredentials) invalidate() {
	if inner, ok := p.from.(*aws.CredentialsCache); ok {
		inner.Invalidate()
	}
	p.cache.Invalidate()
}

// Close gives up the connections that are idle.
func (b *Bedrock) Close() { b.transport.CloseIdleConnections() }

// Chat calls Converse, or ConverseStream for a stream.
func (b *Bedrock) Chat(ctx context.Context, r *translate.Request) translate.Chunks {
	return func(yield func(translate.Chunk, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		q, resp, err := b.converse(ctx, r)
		if err != nil {
			yield(translate.Chunk{}, err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		head := b.head(r, resp)
		if q.Stream && isEventStream(resp) {
			for c, err := range translate.FromBedrockStream(q, readFrames(ctx, resp.Body), head) {
				if !yield(c, err) || err != nil {
					return
				}
				if c.Done {
					drain(resp.Body, cancel)
					return
				}
			}
			return
		}
		answer, err := readAnswer(ctx, resp)
		switch {
		case err != nil:
			yield(translate.Chunk{}, err)
		case r.Stream:
			translate.FromBedrockStream(q, translate.WholeEvents(answer), head)(yield)
		default:
			yield(translate.FromBedrock(q, answer, head))
		}
	}
}

// head is what the answer says of itself.
func (b *Bedrock) head(r *translate.Request, resp *http.Response) translate.AnswerHead {
	model := r.AnswerModel
	if model == "" {
		model = "bedrock/" + b.config.Model
	}
	return translate.AnswerHead{
		ID: "chatcmpl-" + rand.Text(), Model: model,
		Created: time.Now().Unix(), RequestID: resp.Header.Get("X-Amzn-Requestid"),
	}
}

func isEventStream(resp *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return kind == "application/vnd.amazon.eventstream"
}

func readAnswer(ctx context.Context, resp *http.Response) ([]byte, error) {
	answer, err := readAll(resp, maxAnswer)
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, wholeError(err)
}

// converse translates and sends a request. Where the model turns out to lack
// something we took it to have, it is asked once more without.
func (b *Bedrock) converse(ctx context.Context, r *translate.Request) (*translate.BedrockRequest, *http.Response, error) {
	options := b.options(ctx)
	for again := true; ; again = false {
		q, err := translate.ToBedrock(r, options)
		if err != nil {
			return nil, nil, err
		}
		operation := converseCall
		if q.Stream {
			operation = streamCall
		}
		resp, err := b.call(ctx, operation, b.config.Model, q.Body)
		var failed *translate.UpstreamError
		if err == nil {
			q.Body = nil // a stream may last: it need not keep what is sent
			return q, resp, nil
		}
		if !again || !errors.As(err, &failed) {
			return nil, nil, err
		}
		relaxed, ok := options.Relax(failed)
		if !ok {
			return nil, nil, err
		}
		options = relaxed
	}
}

func (b *Bedrock) options(ctx context.Context) translate.BedrockOptions {
	o := translate.BedrockOptions{
		Options: b.config.Translate, Capabilities: b.capabilities(ctx),
		Guardrail: b.config.Guardrail, SendMetadata: b.config.SendMetadata,
	}
	if b.images != nil {
		fetched := 0
		o.FetchImage = func(link string) ([]byte, error) {
			if fetched++; fetched > maxImages {
				return nil, &translate.InvalidError{Message: fmt.Sprintf("at most %d images of a request are fetched", maxImages)}
			}
			return b.images.fetch(ctx, link)
		}
	}
	return o
}

// Invoke calls InvokeModel, whose body is the model's own: embeddings use it.
func (b *Bedrock) Invoke(ctx context.Context, model string, body []byte) ([]byte, http.Header, error) {
	resp, err := b.call(ctx, invokeCall, model, body)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := readAnswer(ctx, resp)
	return answer, resp.Header, err
}

// call sends body to the model and returns an answer with a good status. When
// the credentials have gone stale, it fetches new ones and tries once more.
func (b *Bedrock) call(ctx context.Context, operation bedrockOperation, model string, body []byte) (*http.Response, error) {
	for again := true; ; again = false {
		c := bedrockCall{upstream: b, operation: operation, model: model, body: body}
		resp, err := c.do(ctx)
		var fault *translate.BedrockFault
		if err == nil || !again || b.credentials == nil || !errors.As(err, &fault) || !fault.Stale() {
			return resp, err
		}
		b.credentials.invalidate()
	}
}

// bedrockOperation is one of the calls we make, and how the SDK's client makes it.
type bedrockOperation struct {
	path   string
	accept string
	invoke func(context.Context, *bedrockruntime.Client, *string, func(*bedrockruntime.Options)) error
	result func() any // what the typed call expects its last step to return
}

var (
	converseCall = bedrockOperation{
		path: "converse", accept: "application/json", result: func() any { return &bedrockruntime.ConverseOutput{} },
		invoke: func(ctx context.Context, c *bedrockruntime.Client, model *string, o func(*bedrockruntime.Options)) error {
			_, err := c.Converse(ctx, &bedrockruntime.ConverseInput{ModelId: model}, o)
			return err
		},
	}
	streamCall = bedrockOperation{
		path: "converse-stream", accept: "application/vnd.amazon.eventstream", result: func() any { return &bedrockruntime.ConverseStreamOutput{} },
		invoke: func(ctx context.Context, c *bedrockruntime.Client, model *string, o func(*bedrockruntime.Options)) error {
			_, err := c.ConverseStream(ctx, &bedrockruntime.ConverseStreamInput{ModelId: model}, o)
			return err
		},
	}
	invokeCall = bedrockOperation{
		path: "invoke", accept: "application/json", result: func() any { return &bedrockruntime.InvokeModelOutput{} },
		invoke: func(ctx context.Context, c *bedrockruntime.Client, model *string, o func(*bedrockruntime.Options)) error {
			_, err := c.InvokeModel(ctx, &bedrockruntime.InvokeModelInput{ModelId: model}, o)
			return err
		},
	}
)

// bedrockCall is one call: it is the steps that take the place of the typed
// ones, and the transport under the SDK's middleware.
type bedrockCall struct {
	upstream  *Bedrock
	operation bedrockOperation
	model     string
	body      []byte
	resp      *http.Response
}

func (c *bedrockCall) do(ctx context.Context) (*http.Response, error) {
	err := c.operation.invoke(ctx, c.upstream.client, &c.model, func(o *bedrockruntime.Options) {
		o.HTTPClient = c
		o.APIOptions = append(o.APIOptions[:len(o.APIOptions):len(o.APIOptions)], c.replaceSteps)
	})
	if err != nil {
		return nil, callError(ctx, err)
	}
	if c.resp.StatusCode >= 300 {
		return nil, c.statusError(ctx)
	}
	return c.resp, nil
}

func (c *bedrockCall) replaceSteps(stack *middleware.Stack) error {
	if _, err := stack.Serialize.Swap("OperationSerializer", rawSerializer{c}); err != nil {
		return err
	}
	if _, err := stack.Deserialize.Swap("OperationDeserializer", rawDeserializer{c}); err != nil {
		return err
	}
	if c.operation.path == streamCall.path {
		_, err := stack.Deserialize.Remove("OperationEventStreamDeserializer")
		return err
	}
	return nil
}

// rawSerializer writes the request's path, headers and body.
type rawSerializer struct{ call *bedrockCall }

func (rawSerializer) ID() string { return "OperationSerializer" }

func (s rawSerializer) HandleSerialize(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (middleware.SerializeOutput, middleware.Metadata, error) {
	req, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return middleware.SerializeOutput{}, middleware.Metadata{}, fmt.Errorf("write the request: unexpected %T", in.Request)
	}
	c := s.call
	req.Method = http.MethodPost
	req.URL.Path = "/model/" + c.model + "/" + c.operation.path
	req.URL.RawPath = "/model/" + escapeModel(c.model) + "/" + c.operation.path
	for name, value := range c.upstream.config.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", c.operation.accept)
	req, err := req.SetStream(bytes.NewReader(c.body))
	if err != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, err
	}
	in.Request = req
	return next.HandleSerialize(ctx, in)
}

// rawDeserializer hands the answer over as it came, whatever its status.
type rawDeserializer struct{ call *bedrockCall }

func (rawDeserializer) ID() string { return "OperationDeserializer" }

func (d rawDeserializer) HandleDeserialize(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	out, metadata, err := next.HandleDeserialize(ctx, in)
	out.Result = d.call.operation.result()
	return out, metadata, err
}

// Do sends the signed request.
func (c *bedrockCall) Do(req *http.Request) (*http.Response, error) {
	resp, err := post(req.Context(), c.upstream.transport, req.URL, req.Header, c.body)
	c.resp = resp
	return resp, err
}

// escapeModel escapes a model id as one segment of a path: an ARN's colons and
// slashes, too. An id that is escaped already would be escaped twice.
func escapeModel(model string) string {
	return strings.ReplaceAll(url.PathEscape(model), ":", "%3A")
}

// callError tells why a call had no answer.
func callError(ctx context.Context, err error) error {
	var failed *translate.UpstreamError
	var credentials *credentialsError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &failed):
		return failed
	case errors.As(err, &credentials):
		return &translate.UpstreamError{Kind: translate.KindAuth, Code: "upstream_auth_error", Message: "The router has no valid AWS credentials.", Err: err}
	}
	return &translate.UpstreamError{Kind: translate.KindServer, Code: "proxy_error", Message: "The request could not be sent to AWS.", Err: err}
}

// statusError reads an error answer and closes it.
func (c *bedrockCall) statusError(ctx context.Context) error {
	defer func() { _ = c.resp.Body.Close() }()
	body, err := readAll(c.resp, maxErrorBody)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		body = nil
	}
	e := translate.BedrockError(c.resp.Header.Get("X-Amzn-Errortype"), c.resp.StatusCode, body)
	e.RetryAfter = retryAfter(c.resp.Header)
	return e
}

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
