package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/inference-router/inference-router/translate"
)

// Of the AWS SDK, Bedrock takes what is hard to get right: the shared
// configuration, the chain of credentials, the signature, the frames of an event
// stream. It does not take the services' clients: they are most of a cold
// build. Nor does it take their typed operations. They change numbers in tool schemas and
// arguments, repeat a content block where they meet an unknown one, take a
// stream cut in half for a complete one, and hide throttling behind retries of
// their own. Nor does it take their middleware with bodies of ours in it,
// which would work, but only through steps whose names the SDK keeps to
// itself, and costs 210 allocations and 23 KB a call (measured, with a body of
// 1 KB: 29 to 45 µs, against 20 µs for the signature alone).

// modelURL is where an operation of a model is called. The id is one segment
// of the path: an ARN's colons and slashes are escaped, once.
func (b *Bedrock) modelURL(model, operation string) *url.URL {
	u := *b.endpoint
	u.Path += "/model/" + model + "/" + operation
	u.RawPath = b.endpoint.EscapedPath() + "/model/" + escapeModel(model) + "/" + operation
	return &u
}

// escapeModel makes one segment of a path of a model's id or ARN.
func escapeModel(model string) string { return strings.ReplaceAll(url.PathEscape(model), ":", "%3A") }

// call sends body to the model and returns an answer with a good status. When
// the credentials or the clock turn out to be stale, it tries once more with
// new ones.
func (b *Bedrock) call(ctx context.Context, operation, model string, body []byte) (*http.Response, error) {
	to := b.modelURL(model, operation)
	for again := true; ; again = false {
		resp, err := b.send(ctx, to, operation, body)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode < 300 {
			return resp, nil
		}
		err = statusError(ctx, resp)
		var fault *translate.BedrockFault
		if !again || !errors.As(err, &fault) || !fault.Stale() || !b.signer.renew(resp.Header) {
			return nil, err
		}
	}
}

func (b *Bedrock) send(ctx context.Context, to *url.URL, operation string, body []byte) (*http.Response, error) {
	header := http.Header{
		"Content-Type":    {"application/json"},
		"Accept":          {"application/json"},
		"Accept-Encoding": {"identity"},
		"User-Agent":      {"inference-router"},
	}
	if operation == opStream {
		header.Set("Accept", eventStreamType)
	}
	for name, value := range b.config.Headers {
		header.Set(name, value)
	}
	if err := b.signer.sign(ctx, http.MethodPost, to, header, body); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return post(ctx, b.transport, to, header, body)
}

// statusError reads an error answer and closes it.
func statusError(ctx context.Context, resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	body, err := readAll(resp, maxErrorBody)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		body = nil
	}
	e := translate.BedrockError(resp.Header.Get("X-Amzn-Errortype"), resp.StatusCode, body)
	e.RetryAfter = retryAfter(resp.Header)
	return e
}

// awsSigner authorizes requests: by an API key, or by a signature.
type awsSigner struct {
	apiKey translate.Secret // "" to sign
	region string
	signer *v4.Signer
	chain  aws.CredentialsProvider // what cache takes from; may itself keep some
	cache  *aws.CredentialsCache

	ahead atomic.Int64 // nanoseconds by which AWS's clock is ahead of ours
}

func newAWSSigner(c BedrockConfig, shared aws.Config) *awsSigner {
	s := &awsSigner{apiKey: c.APIKey, region: shared.Region, signer: v4.NewSigner(), chain: shared.Credentials}
	if s.apiKey == "" && c.Profile == "" && c.Credentials == nil {
		s.apiKey = translate.Secret(os.Getenv("AWS_BEARER_TOKEN_BEDROCK"))
	}
	if s.chain == nil {
		s.chain = aws.AnonymousCredentials{}
	}
	s.cache = aws.NewCredentialsCache(s.chain)
	return s
}

// sign puts an Authorization into header, and what goes with it.
func (s *awsSigner) sign(ctx context.Context, method string, to *url.URL, header http.Header, body []byte) error {
	if s.apiKey != "" {
		header.Set("Authorization", "Bearer "+s.apiKey.Reveal())
		return nil
	}
	credentials, err := s.cache.Retrieve(ctx)
	if err != nil {
		return &translate.UpstreamError{Kind: translate.KindAuth, Code: "upstream_auth_error", Message: "This router has no valid AWS credentials.", Err: err}
	}
	hash := sha256.Sum256(body)
	now := time.Now().Add(time.Duration(s.ahead.Load()))
	req := &http.Request{Method: method, URL: to, Host: to.Host, Header: header, ContentLength: int64(len(body))}
	if err = s.signer.SignHTTP(ctx, credentials, req, hex.EncodeToString(hash[:]), "bedrock", s.region, now); err != nil {
		return &translate.UpstreamError{Kind: translate.KindAuth, Code: "upstream_auth_error", Message: "The request to AWS could not be signed.", Err: fmt.Errorf("sign: %w", err)}
	}
	return nil
}

// clockSkew is how far two clocks may be apart before it is worth a correction:
// AWS takes signatures within five minutes.
const clockSkew = 4 * time.Minute

// renew forgets the credentials and takes AWS's clock from an answer's header,
// after a signature has been refused. It returns false when there is nothing
// to renew.
func (s *awsSigner) renew(answer http.Header) bool {
	if s.apiKey != "" {
		return false
	}
	if theirs, err := http.ParseTime(answer.Get("Date")); err == nil {
		if ahead := time.Until(theirs); ahead.Abs() > clockSkew {
			s.ahead.Store(int64(ahead))
		} else {
			s.ahead.Store(0)
		}
	}
	if inner, ok := s.chain.(*aws.CredentialsCache); ok {
		inner.Invalidate()
	}
	s.cache.Invalidate()
	return true
}
