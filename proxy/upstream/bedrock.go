package upstream

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/inference-router/inference-router/translate"
)

// The operations of the runtime's API that are called.
const (
	opWhole  = "converse"
	opStream = "converse-stream"
	opInvoke = "invoke"

	eventStreamType = "application/vnd.amazon.eventstream"
)

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
	TLS     *tls.Config       // authorities and a certificate of our own; nil = the system's

	Capabilities translate.CapabilityOverrides
	Translate    translate.Options
	Guardrail    translate.Guardrail
	// SendMetadata passes metadata and user on to AWS's invocation logs.
	SendMetadata bool
}

// Bedrock calls one model through Converse.
type Bedrock struct {
	config    BedrockConfig
	transport transport
	signer    *awsSigner
	endpoint  *url.URL
	control   *url.URL      // root of the control plane
	images    *imageFetcher // nil when remote images are not allowed

	caps     atomic.Pointer[translate.Capabilities] // nil until the model is known
	askAgain atomic.Int64                           // unix seconds; not before may the profile be asked about
}

// NewBedrock makes an upstream of a model on Bedrock. It touches no network:
// credentials are fetched when the first request needs them.
func NewBedrock(c BedrockConfig) (*Bedrock, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("upstream %s: %w", c.Name, err)
	}
	b := &Bedrock{config: c, transport: newTransport(c.Connect, c.TLS)}
	shared, err := loadAWS(c)
	if err != nil {
		return nil, fmt.Errorf("upstream %s: %w", c.Name, err)
	}
	if b.endpoint, err = awsEndpoint(bedrockRuntime, shared, c.Endpoint); err != nil {
		return nil, fmt.Errorf("upstream %s: endpoint: %w", c.Name, err)
	}
	if b.control, err = awsEndpoint(bedrockControl, shared, c.ControlEndpoint); err != nil {
		return nil, fmt.Errorf("upstream %s: control endpoint: %w", c.Name, err)
	}
	b.signer = newAWSSigner(c, shared)
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
	return kind == eventStreamType
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

// maxRelaxations is how often one request is put again without something that
// the model has refused.
const maxRelaxations = 6

// converse translates and sends a request. Where the model turns out to lack
// something we took it to have, it is asked again without, and what it lacks is
// remembered.
func (b *Bedrock) converse(ctx context.Context, r *translate.Request) (*translate.BedrockRequest, *http.Response, error) {
	options := b.options(ctx)
	learned := false
	for again := maxRelaxations; ; again-- {
		q, err := translate.ToBedrock(r, options)
		if err != nil {
			return nil, nil, err
		}
		operation := opWhole
		if q.Stream {
			operation = opStream
		}
		resp, err := b.call(ctx, operation, b.config.Model, q.Body)
		var failed *translate.UpstreamError
		if err == nil {
			q.Body = nil // a stream may last: it need not keep what is sent
			if learned {
				caps := options.Capabilities
				b.caps.Store(&caps)
			}
			return q, resp, nil
		}
		if again == 0 || !errors.As(err, &failed) {
			return nil, nil, err
		}
		relaxed, ok := options.Relax(failed)
		if !ok {
			return nil, nil, err
		}
		learned = learned || relaxed.Capabilities != options.Capabilities
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
	resp, err := b.call(ctx, opInvoke, model, body)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := readAnswer(ctx, resp)
	return answer, resp.Header, err
}
