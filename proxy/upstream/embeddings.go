package upstream

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/translate"
)

// maxEmbeddingCalls is how many calls one embeddings request has open at a
// time: most models take one text a call.
const maxEmbeddingCalls = 8

// OpenAIEmbeddings passes embeddings requests through to an OpenAI-compatible
// API. Safe for concurrent use.
type OpenAIEmbeddings struct {
	client *OpenAI
	model  string
	to     *url.URL
}

// NewOpenAIEmbeddings makes an upstream of a model at an OpenAI-compatible API.
func NewOpenAIEmbeddings(c OpenAIConfig, model string) (*OpenAIEmbeddings, error) {
	client, err := NewOpenAI(c)
	if err != nil {
		return nil, err
	}
	return &OpenAIEmbeddings{client: client, model: model, to: client.endpoint("/embeddings")}, nil
}

// Close gives up the connections that are idle.
func (o *OpenAIEmbeddings) Close() { o.client.Close() }

// Embed sends r with the model's name in it and passes on the answer byte for
// byte. An error is ctx's cause when that has ended, else a
// *translate.UpstreamError.
func (o *OpenAIEmbeddings) Embed(ctx context.Context, r *translate.EmbeddingRequest) (*translate.EmbeddingAnswer, error) {
	// Ending the call's own context gives up the connection of an answer that
	// was not read to its end.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := post(ctx, o.client.via, o.to, o.client.headers(r.ClientKey, r.Forward), r.BodyFor(o.model))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		failed := o.client.statusError(resp)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, failed
	}
	body, err := readAll(resp, maxAnswer)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, wholeError(err)
	}
	return translate.FromOpenAIEmbedding(body, requestID(resp.Header))
}

// Invoker is the part of a Bedrock client that embeddings need: one
// InvokeModel call, JSON in, JSON out.
type Invoker interface {
	Invoke(ctx context.Context, modelID string, body []byte) ([]byte, http.Header, error)
}

// BedrockEmbeddings answers embeddings requests with a model on Bedrock. Safe
// for concurrent use.
type BedrockEmbeddings struct {
	client    Invoker
	name      string
	model     string
	inputType string
	resolve   func(ctx context.Context) string           // what an opaque id stands for; "" when that is not known
	dialect   atomic.Pointer[translate.EmbeddingDialect] // nil until the model is known

	asking   chan struct{} // full while the model is asked for; guards what follows
	askAgain time.Time     // not before may it be asked for again
	unknown  error         // why it is not known
}

// BedrockEmbeddingsConfig says which model answers.
type BedrockEmbeddingsConfig struct {
	Name  string // of the upstream, such as bedrock/amazon.titan-embed-text-v2:0
	Model string // Bedrock's model id, an inference profile's, or an ARN of one
	// InputType is assumed of requests without input_type; "" means
	// search_document.
	InputType string
	// Family is the model that Model stands for where its own id does not say,
	// such as amazon.titan-embed-text-v2:0; "" asks AWS with the first request.
	Family string
	Client Invoker
	// Resolve tells which model an application inference profile stands for, ""
	// when AWS does not say; nil when that cannot be asked.
	Resolve func(ctx context.Context) string
}

// NewBedrockEmbeddings fails when the model's dialect is not known and cannot
// be asked for.
func NewBedrockEmbeddings(c BedrockEmbeddingsConfig) (*BedrockEmbeddings, error) {
	b := &BedrockEmbeddings{client: c.Client, name: c.Name, model: c.Model, inputType: c.InputType, resolve: c.Resolve, asking: make(chan struct{}, 1)}
	if c.Family == "" && isOpaque(c.Model) && c.Resolve != nil {
		return b, nil
	}
	dialect, err := translate.BedrockEmbedding(cmp.Or(c.Family, c.Model))
	if err != nil {
		return nil, err
	}
	b.dialect.Store(dialect)
	return b, nil
}

// known is the model's dialect, for which AWS is asked where the id does not
// tell it: once, and where AWS does not say, once every profileRetry. Requests
// that come meanwhile wait for the answer.
func (b *BedrockEmbeddings) known(ctx context.Context) (*translate.EmbeddingDialect, error) {
	if d := b.dialect.Load(); d != nil {
		return d, nil
	}
	select {
	case b.asking <- struct{}{}:
		defer func() { <-b.asking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if d := b.dialect.Load(); d != nil {
		return d, nil
	}
	if time.Now().Before(b.askAgain) {
		return nil, b.unknown
	}
	d, err := translate.BedrockEmbedding(b.resolve(ctx))
	if err != nil {
		b.askAgain = time.Now().Add(profileRetry)
		b.unknown = &translate.UpstreamError{
			Kind: translate.KindNotFound, Code: "model_not_found", Err: err,
			Message: "The embedding model behind this upstream's inference profile is not known; capabilities.family names it.",
		}
		return nil, b.unknown
	}
	b.dialect.Store(d)
	return d, nil
}

// Embed makes the calls a request needs, at most eight at a time, and joins
// what they give. One that fails ends the others and is the request's error:
// *translate.UpstreamError, *translate.InvalidError, or ctx's cause.
func (b *BedrockEmbeddings) Embed(ctx context.Context, r *translate.EmbeddingRequest) (*translate.EmbeddingAnswer, error) {
	dialect, err := b.known(ctx)
	if err != nil {
		return nil, err
	}
	calls, err := dialect.Calls(r, b.inputType)
	if err != nil {
		return nil, err
	}
	parts := make([]*translate.EmbeddingPart, len(calls))
	ids := make([]string, len(calls))
	err = eachAtMost(ctx, maxEmbeddingCalls, len(calls), func(ctx context.Context, i int) error {
		var err error
		parts[i], ids[i], err = b.call(ctx, dialect, calls[i])
		return err
	})
	if err != nil {
		return nil, b.failure(ctx, err, parts)
	}
	answer := translate.JoinEmbeddings(r, embeddingModel(r.Model, b.name), parts)
	answer.RequestID = ids[0]
	return answer, nil
}

func (b *BedrockEmbeddings) call(ctx context.Context, dialect *translate.EmbeddingDialect, call translate.EmbeddingCall) (*translate.EmbeddingPart, string, error) {
	body, header, err := b.client.Invoke(ctx, b.model, call.Body)
	if err != nil {
		return nil, "", err
	}
	id := header.Get("X-Amzn-Requestid")
	part, err := dialect.ReadPart(body, header.Get("X-Amzn-Bedrock-Input-Token-Count"), call.Count)
	if err != nil {
		return nil, id, &translate.UpstreamError{
			Kind: translate.KindBadResponse, Status: http.StatusOK,
			Message: "The embedding model gave an answer that could not be read.",
			Billed:  translate.BilledPartly, Err: err,
		}
	}
	return part, id, nil
}

// failure is the error of a request one of whose calls failed: answered calls
// beside it have been billed.
func (b *BedrockEmbeddings) failure(ctx context.Context, err error, parts []*translate.EmbeddingPart) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var failed *translate.UpstreamError
	if !errors.As(err, &failed) || failed.Billed != translate.BilledNothing {
		return err
	}
	for _, part := range parts {
		if part != nil {
			billed := *failed
			billed.Billed = translate.BilledPartly
			return &billed
		}
	}
	return err
}

// eachAtMost runs f for 0 to n-1, at most limit at a time. The first error
// ends the context of the others and is returned once all have ended.
func eachAtMost(ctx context.Context, limit, n int, f func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		next    int // index to run next, guarded by mu
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= n && ctx.Err() == nil
	}
	for range min(limit, n) {
		running.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if err := f(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// embeddingModel is what a translated answer calls its model: the name the client
// used, else the upstream's own.
func embeddingModel(asked, name string) string {
	if asked != "" {
		return asked
	}
	return name
}
