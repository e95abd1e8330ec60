package upstream_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/tidwall/gjson"
	"go.uber.org/goleak"

	"github.com/inference-router/inference-router/proxy/upstream"
	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
	"github.com/inference-router/inference-router/translate"
)

const testModel = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"

// newBedrock makes an upstream of a fake; change may adjust its configuration.
func newBedrock(t *testing.T, s *bedrocktest.Server, change func(*upstream.BedrockConfig)) *upstream.Bedrock {
	t.Helper()
	c := upstream.BedrockConfig{
		Name: "test", Model: testModel, Region: bedrocktest.Region, Endpoint: s.URL,
		Credentials: credentials.NewStaticCredentialsProvider(bedrocktest.AccessKey, bedrocktest.SecretKey, ""),
	}
	if change != nil {
		change(&c)
	}
	b, err := upstream.NewBedrock(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func chatRequest(t *testing.T, body string) *translate.Request {
	t.Helper()
	r, err := translate.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// collect copies the chunks of an answer.
func collect(answer translate.Chunks) (chunks []translate.Chunk, err error) {
	for c, e := range answer {
		if e != nil {
			return chunks, e
		}
		c.Data = append([]byte(nil), c.Data...)
		chunks = append(chunks, c)
	}
	return chunks, nil
}

const (
	askWhole  = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	askStream = `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}`
)

func TestBedrockAnswersWhole(t *testing.T) {
	s := bedrocktest.New(t)
	chunks, err := collect(newBedrock(t, s, nil).Chat(t.Context(), chatRequest(t, askWhole)))
	if err != nil {
		t.Fatal(err)
	}
	if len(chunks) != 1 || !chunks[0].Whole {
		t.Fatalf("got %d chunks, want one whole", len(chunks))
	}
	c := chunks[0]
	if got := gjson.GetBytes(c.Data, "choices.0.message.content").Str; got != "Hello." {
		t.Errorf("got %q in %s", got, c.Data)
	}
	if got := gjson.GetBytes(c.Data, "model").Str; got != "bedrock/"+testModel {
		t.Errorf("got model %q", got)
	}
	if c.Head == nil || c.Head.RequestID != "req-fake" || c.Head.Created == 0 {
		t.Errorf("got head %+v", c.Head)
	}
	if c.Usage == nil || *c.Usage != (translate.Usage{InputTokens: 10, OutputTokens: 5}) {
		t.Errorf("got usage %+v", c.Usage)
	}
	r := s.Requests()[0]
	if r.Operation != "converse" || r.Model != testModel || !strings.Contains(r.Path, "%3A0/") {
		t.Errorf("got operation %s, model %s, path %s", r.Operation, r.Model, r.Path)
	}
}

func TestBedrockAnswersAsAStream(t *testing.T) {
	s := bedrocktest.New(t)
	chunks, err := collect(newBedrock(t, s, nil).Chat(t.Context(), chatRequest(t, askStream)))
	if err != nil {
		t.Fatal(err)
	}
	var text string
	var finishes, usages int
	for _, c := range chunks {
		if len(c.Data) > 0 && !json.Valid(c.Data) {
			t.Errorf("not JSON: %s", c.Data)
		}
		text += gjson.GetBytes(c.Data, "choices.0.delta.content").Str
		if c.Finish != "" {
			finishes++
		}
		if c.Usage != nil {
			usages++
		}
	}
	if text != "Hello." || finishes != 1 || usages != 1 || !chunks[len(chunks)-1].Done {
		t.Errorf("got %q, %d finishes, %d usages, last %+v", text, finishes, usages, chunks[len(chunks)-1])
	}
	if chunks[0].Head == nil || s.Requests()[0].Operation != "converse-stream" {
		t.Errorf("got head %v, operation %s", chunks[0].Head, s.Requests()[0].Operation)
	}
}

func TestBedrockSendsNothingUntilRangedOver(t *testing.T) {
	s := bedrocktest.New(t)
	_ = newBedrock(t, s, nil).Chat(t.Context(), chatRequest(t, askWhole))
	if n := len(s.Requests()); n != 0 {
		t.Errorf("got %d calls, want none", n)
	}
}

func TestTrap44AnARNIsEscapedOnce(t *testing.T) {
	const arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-6"
	s := bedrocktest.New(t)
	b := newBedrock(t, s, func(c *upstream.BedrockConfig) { c.Model, c.Region = arn, "" })
	if _, err := collect(b.Chat(t.Context(), chatRequest(t, askWhole))); err != nil {
		t.Fatal(err)
	}
	r := s.Requests()[0]
	if r.Model != arn || strings.Contains(r.Path, "%25") || !strings.Contains(r.Path, "%2Fus.anthropic") {
		t.Errorf("got model %s, path %s", r.Model, r.Path)
	}
}

func TestBedrockSendsAnAPIKey(t *testing.T) {
	s := bedrocktest.New(t)
	b := newBedrock(t, s, func(c *upstream.BedrockConfig) { c.APIKey = bedrocktest.BearerToken })
	if _, err := collect(b.Chat(t.Context(), chatRequest(t, askWhole))); err != nil {
		t.Fatal(err)
	}
	if got := s.Requests()[0].Header.Get("Authorization"); got != "Bearer "+bedrocktest.BearerToken {
		t.Errorf("got Authorization %q", got)
	}
}

func TestConfiguredCredentialsWinOverAnAPIKeyInTheEnvironment(t *testing.T) {
	t.Setenv("AWS_BEARER_TOKEN_BEDROCK", "someone else's")
	s := bedrocktest.New(t)
	if _, err := collect(newBedrock(t, s, nil).Chat(t.Context(), chatRequest(t, askWhole))); err != nil {
		t.Fatal(err)
	}
	if got := s.Requests()[0].Header.Get("Authorization"); !strings.HasPrefix(got, "AWS4-HMAC-SHA256 ") {
		t.Errorf("got Authorization %q, want a signature", got)
	}
}

func TestBedrockTakesAnAPIKeyFromTheEnvironment(t *testing.T) {
	t.Setenv("AWS_BEARER_TOKEN_BEDROCK", bedrocktest.BearerToken)
	s := bedrocktest.New(t)
	b := newBedrock(t, s, func(c *upstream.BedrockConfig) { c.Credentials = nil })
	if _, err := collect(b.Chat(t.Context(), chatRequest(t, askWhole))); err != nil {
		t.Fatal(err)
	}
	if got := s.Requests()[0].Header.Get("Authorization"); got != "Bearer "+bedrocktest.BearerToken {
		t.Errorf("got Authorization %q", got)
	}
}

func TestBedrockSendsConfiguredHeaders(t *testing.T) {
	s := bedrocktest.New(t)
	b := newBedrock(t, s, func(c *upstream.BedrockConfig) { c.Headers = map[string]string{"X-Team": "search"} })
	if _, err := collect(b.Chat(t.Context(), chatRequest(t, askWhole))); err != nil {
		t.Fatal(err)
	}
	if got := s.Requests()[0].Header.Get("X-Team"); got != "search" {
		t.Errorf("got X-Team %q", got)
	}
}

func TestBedrockRefusesABadConfiguration(t *testing.T) {
	yes := true
	for _, row := range []struct {
		name   string
		config upstream.BedrockConfig
		says   string
	}{
		{"no model", upstream.BedrockConfig{Region: "us-east-1"}, "model"},
		{"an escaped ARN", upstream.BedrockConfig{Region: "us-east-1", Model: "arn%3Aaws%3Abedrock"}, "escaped"},
		{"an endpoint that is no URL", upstream.BedrockConfig{Region: "us-east-1", Model: "m", Endpoint: "bedrock.local"}, "endpoint"},
		{"an unknown kind of sampling", upstream.BedrockConfig{Region: "us-east-1", Model: "m", Capabilities: translate.CapabilityOverrides{Sampling: "some", Tools: &yes}}, "sampling"},
		{"a header with a line break", upstream.BedrockConfig{Region: "us-east-1", Model: "m", Headers: map[string]string{"X-A": "b\r\nc"}}, "headers"},
		{"no region", upstream.BedrockConfig{Model: "m"}, "region"},
		{"an unknown profile", upstream.BedrockConfig{Region: "us-east-1", Model: "m", Profile: "nobody-has-this"}, "profile"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("AWS_REGION", "")
			t.Setenv("AWS_DEFAULT_REGION", "")
			t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
			row.config.Name = "mine"
			_, err := upstream.NewBedrock(row.config)
			if err == nil || !strings.Contains(err.Error(), row.says) || !strings.Contains(err.Error(), "mine") {
				t.Errorf("got %v, want an error about %s of mine", err, row.says)
			}
		})
	}
}

// TestBedrockFaults is what the fake can do wrong, and what comes of it.
func TestBedrockFaults(t *testing.T) {
	start := bedrocktest.Event("messageStart", `{"role":"assistant"}`)
	text := bedrocktest.Event("contentBlockDelta", `{"contentBlockIndex":0,"delta":{"text":"Hel"}}`)
	stream := func(f ...bedrocktest.Frame) bedrocktest.Answer { return bedrocktest.Answer{Frames: f} }
	status := func(status int, name, message string) bedrocktest.Answer {
		return bedrocktest.Answer{Status: status, ErrorType: name, Body: `{"message":"` + message + `"}`}
	}
	for _, row := range []struct {
		name   string
		ask    string
		answer bedrocktest.Answer
		kind   translate.Kind
		code   string
		billed translate.Billed
		chunks int // before the error
	}{
		{"trap 66: throttled as first frame", askStream, stream(bedrocktest.Exception("throttlingException", "slow")), translate.KindRateLimited, "rate_limit_exceeded", translate.BilledNothing, 0},
		{"trap 64: throttled in the middle", askStream, stream(start, text, bedrocktest.Exception("throttlingException", "slow")), translate.KindRateLimited, "rate_limit_exceeded", translate.BilledPartly, 2},
		{"trap 65: internal error in the middle is ours to answer for", askStream, stream(start, bedrocktest.Exception("internalServerException", "oops")), translate.KindServer, "upstream_error", translate.BilledPartly, 1},
		{"a model stream error in the middle", askStream, stream(start, text, bedrocktest.Exception("modelStreamErrorException", "oops")), translate.KindServer, "model_stream_error", translate.BilledPartly, 2},
		{"a validation exception in the stream", askStream, stream(bedrocktest.Exception("validationException", "messages.0 is bad")), translate.KindInvalid, "", translate.BilledNothing, 0},
		{"service unavailable in the stream", askStream, stream(bedrocktest.Exception("serviceUnavailableException", "later")), translate.KindOverloaded, "upstream_overloaded", translate.BilledNothing, 0},
		{"an unmodeled error frame", askStream, stream(start, bedrocktest.Frame{ErrorCode: "Boom", JSON: "it broke"}), translate.KindServer, "upstream_error", translate.BilledPartly, 1},
		{"trap 63: no messageStop", askStream, stream(start, text), translate.KindInterrupted, "stream_interrupted", translate.BilledPartly, 2},
		{"an empty stream", askStream, stream(), translate.KindBadResponse, "invalid_upstream_response", translate.BilledUnknown, 0},
		{"trap 86: a frame cut in half", askStream, bedrocktest.Answer{Frames: []bedrocktest.Frame{start, text}, CutLast: 20}, translate.KindInterrupted, "stream_interrupted", translate.BilledPartly, 1},
		{"the first frame cut in half", askStream, bedrocktest.Answer{Frames: []bedrocktest.Frame{start}, CutLast: 20}, translate.KindUnknownState, "upstream_reset", translate.BilledUnknown, 0},
		{"a prelude cut in half", askStream, bedrocktest.Answer{Frames: []bedrocktest.Frame{start, text}, CutLast: len(text.Encode()) - 2}, translate.KindInterrupted, "stream_interrupted", translate.BilledPartly, 1},
		{"a damaged frame", askStream, stream(start, bedrocktest.Frame{Event: "contentBlockDelta", JSON: `{"delta":{"text":"x"}}`, Corrupt: true}), translate.KindBadResponse, "upstream_bad_chunk", translate.BilledPartly, 1},
		{"a false length", askStream, stream(start, bedrocktest.Frame{Event: "contentBlockDelta", JSON: `{}`, Length: 1 << 30}), translate.KindBadResponse, "upstream_bad_chunk", translate.BilledPartly, 1},
		{"an event that is not JSON", askStream, stream(start, bedrocktest.Event("contentBlockDelta", `{"delta":`)), translate.KindBadResponse, "upstream_bad_chunk", translate.BilledPartly, 1},
		{"the connection breaks in the middle", askStream, bedrocktest.Answer{Frames: []bedrocktest.Frame{start, text}, Reset: true}, translate.KindInterrupted, "stream_interrupted", translate.BilledPartly, 2},
		{"the connection breaks before an answer", askWhole, bedrocktest.Answer{Reset: true}, translate.KindUnknownState, "upstream_reset", translate.BilledUnknown, 0},
		{"malformed output ends the stream", askStream, stream(start, text, bedrocktest.Event("messageStop", `{"stopReason":"malformed_tool_use"}`)), translate.KindServer, "malformed_model_output", translate.BilledPartly, 2},

		{"trap 76: throttled with 429", askWhole, status(429, "ThrottlingException", "slow"), translate.KindRateLimited, "rate_limit_exceeded", 0, 0},
		{"throttled with 400: the name counts", askWhole, status(400, "ThrottlingException", "slow"), translate.KindRateLimited, "rate_limit_exceeded", 0, 0},
		{"quota used up", askWhole, status(400, "ServiceQuotaExceededException", "quota"), translate.KindQuota, "upstream_quota_exceeded", 0, 0},
		{"model not ready", askWhole, status(429, "ModelNotReadyException", "warming"), translate.KindOverloaded, "upstream_overloaded", 0, 0},
		{"service unavailable", askStream, status(503, "ServiceUnavailableException", "later"), translate.KindOverloaded, "upstream_overloaded", 0, 0},
		{"internal error", askWhole, status(500, "InternalServerException", "oops"), translate.KindServer, "upstream_error", 0, 0},
		{"model timeout", askWhole, status(408, "ModelTimeoutException", "slow"), translate.KindTimeout, "upstream_timeout", 0, 0},
		{"model error", askWhole, status(424, "ModelErrorException", "oops"), translate.KindServer, "model_error", 0, 0},
		{"invalid request", askWhole, status(400, "ValidationException", "messages.3.content is bad"), translate.KindInvalid, "", 0, 0},
		{"trap 80: the context is too long", askWhole, status(400, "ValidationException", "Input is too long for requested model."), translate.KindInvalid, "context_length_exceeded", 0, 0},
		{"an invalid model id", askWhole, status(400, "ValidationException", "The provided model identifier is invalid."), translate.KindNotFound, "model_not_found", 0, 0},
		{"only with an inference profile", askWhole, status(400, "ValidationException", "Invocation of model ID x with on-demand throughput isn’t supported."), translate.KindNotFound, "model_not_supported", 0, 0},
		{"no such model", askWhole, status(404, "ResourceNotFoundException", "This model version has reached the end of its life."), translate.KindNotFound, "model_not_found", 0, 0},
		{"no access to the model", askWhole, status(403, "AccessDeniedException", "You don't have access to the model with the specified model ID."), translate.KindNotFound, "model_not_found", 0, 0},
		{"trap 79: our role may not", askWhole, status(403, "AccessDeniedException", "User: arn:aws:iam::123456789012:role/proxy is not authorized to perform: bedrock:InvokeModel"), translate.KindAuth, "upstream_auth_error", 0, 0},
		{"a conflict", askWhole, status(400, "ConflictException", "busy"), translate.KindServer, "upstream_conflict", 0, 0},
		{"an unknown operation", askWhole, status(404, "UnknownOperationException", ""), translate.KindServer, "proxy_error", 0, 0},
		{"HTML with 502", askWhole, bedrocktest.Answer{Status: 502, Body: "<html>Bad Gateway</html>"}, translate.KindServer, "upstream_error", 0, 0},
		{"a body too large", askWhole, bedrocktest.Answer{Status: 413, Body: "<html>"}, translate.KindInvalid, "request_too_large", 0, 0},
		{"a redirect", askWhole, bedrocktest.Answer{Status: 302, Header: http.Header{"Location": {"http://169.254.169.254/"}}}, translate.KindBadResponse, "upstream_redirect", 0, 0},
		{"200 without output", askWhole, bedrocktest.Answer{Body: `{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"}}`}, translate.KindBadResponse, "invalid_upstream_response", translate.BilledNothing, 0},
		{"200 with HTML", askWhole, bedrocktest.Answer{Body: "<html>captive</html>"}, translate.KindBadResponse, "invalid_upstream_response", translate.BilledUnknown, 0},
		{"200 with HTML for a stream", askStream, bedrocktest.Answer{Body: "<html>captive</html>"}, translate.KindBadResponse, "invalid_upstream_response", translate.BilledUnknown, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.answer.Status == 0 && row.answer.Body == "" && row.answer.Frames == nil && !row.answer.Reset {
				row.answer.Frames = []bedrocktest.Frame{}
			}
			s := bedrocktest.New(t, row.answer)
			chunks, err := collect(newBedrock(t, s, nil).Chat(t.Context(), chatRequest(t, row.ask)))
			var failed *translate.UpstreamError
			if !errors.As(err, &failed) {
				t.Fatalf("got %v and %d chunks, want an UpstreamError", err, len(chunks))
			}
			if failed.Kind != row.kind || failed.Code != row.code || failed.Billed != row.billed || len(chunks) != row.chunks {
				t.Errorf("got kind %s, code %q, billed %d after %d chunks (%v), want %s, %q, %d after %d",
					failed.Kind, failed.Code, failed.Billed, len(chunks), err, row.kind, row.code, row.billed, row.chunks)
			}
			if failed.Kind == translate.KindInvalid && failed.Status != 400 && failed.Status != 413 {
				t.Errorf("the client's own mistake has status %d", failed.Status)
			}
			for _, c := range chunks {
				if c.Finish != "" {
					t.Errorf("a failed stream has finish_reason %q", c.Finish)
				}
			}
			for _, leak := range []string{"arn:", "123456789012", "html", "169.254", "amazon.com"} {
				if strings.Contains(failed.Message, leak) {
					t.Errorf("message %q tells of %q", failed.Message, leak)
				}
			}
		})
	}
}

func TestBedrockTellsHowLongToWait(t *testing.T) {
	s := bedrocktest.New(t, bedrocktest.Answer{Status: 429, ErrorType: "ThrottlingException", Body: "{}", Header: http.Header{"Retry-After": {"7"}}})
	_, err := collect(newBedrock(t, s, nil).Chat(t.Context(), chatRequest(t, askWhole)))
	var failed *translate.UpstreamError
	if !errors.As(err, &failed) || failed.RetryAfter != 7*time.Second {
		t.Errorf("got %v, want a wait of 7s", err)
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("trap 75: got %d calls, want 1: trying again is not ours", n)
	}
}

func TestBedrockCompleteStreamSurvivesALostEnd(t *testing.T) {
	frames := bedrocktest.Text("Hi.")
	s := bedrocktest.New(t, bedrocktest.Answer{Frames: frames[:len(frames)-1], Reset: true})
	chunks, err := collect(newBedrock(t, s, nil).Chat(t.Context(), chatRequest(t, askStream)))
	if err != nil || chunks[len(chunks)-1].Finish != "stop" {
		t.Errorf("got %v after %d chunks", err, len(chunks))
	}
}

func TestBedrockEndsAtDoneWhileTheConnectionStaysOpen(t *testing.T) {
	s := bedrocktest.New(t, bedrocktest.Answer{Frames: bedrocktest.Text("Hi."), Hang: true})
	done := false
	for c, err := range newBedrock(t, s, nil).Chat(t.Context(), chatRequest(t, askStream)) {
		if err != nil {
			t.Fatal(err)
		}
		done = done || c.Done
	}
	if !done {
		t.Error("no chunk was marked Done")
	}
	<-s.Gone()
}

func TestTrap68LeavingTheLoopEndsTheCallAtOnce(t *testing.T) {
	frames := bedrocktest.Text("Hi.")
	never := make(chan struct{})
	frames[2].Wait = never
	s := bedrocktest.New(t, bedrocktest.Answer{Frames: frames})
	for _, err := range newBedrock(t, s, nil).Chat(t.Context(), chatRequest(t, askStream)) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	<-s.Gone()
}

func TestTrap68CancellingEndsTheCallWithItsCause(t *testing.T) {
	frames := bedrocktest.Text("Hi.")
	never := make(chan struct{})
	frames[2].Wait = never
	s := bedrocktest.New(t, bedrocktest.Answer{Frames: frames})
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	cause := errors.New("the client has gone")
	var last error
	for _, err := range newBedrock(t, s, nil).Chat(ctx, chatRequest(t, askStream)) {
		last = err
		cancel(cause)
	}
	if !errors.Is(last, cause) {
		t.Errorf("got %v, want the cause", last)
	}
	<-s.Gone()
}

func TestBedrockSaysSoWhenThereAreNoCredentials(t *testing.T) {
	s := bedrocktest.New(t)
	b := newBedrock(t, s, func(c *upstream.BedrockConfig) {
		c.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("no role, secret AKIDHIDDEN")
		})
	})
	_, err := collect(b.Chat(t.Context(), chatRequest(t, askWhole)))
	var failed *translate.UpstreamError
	if !errors.As(err, &failed) || failed.Kind != translate.KindAuth || strings.Contains(failed.Message, "AKID") {
		t.Errorf("got %v, want KindAuth that says nothing of the cause", err)
	}
	if len(s.Requests()) != 0 {
		t.Error("a call was made without credentials")
	}
}

// Credentials that expire between two calls get one refresh and one retry.
func TestBedrockFetchesNewCredentialsOnce(t *testing.T) {
	expired := bedrocktest.Answer{Status: 403, ErrorType: "ExpiredTokenException", Body: `{"message":"The security token included in the request is expired"}`}
	for _, row := range []struct {
		name   string
		script []bedrocktest.Answer
		ok     bool
	}{
		{"the new ones work", []bedrocktest.Answer{expired, {Body: bedrocktest.WholeText("Hi.")}}, true},
		{"the new ones are no better", []bedrocktest.Answer{expired, expired, {Body: bedrocktest.WholeText("Hi.")}}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			var fetched atomic.Int32
			s := bedrocktest.New(t, row.script...)
			b := newBedrock(t, s, func(c *upstream.BedrockConfig) {
				c.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					fetched.Add(1)
					return aws.Credentials{AccessKeyID: bedrocktest.AccessKey, SecretAccessKey: bedrocktest.SecretKey}, nil
				})
			})
			_, err := collect(b.Chat(t.Context(), chatRequest(t, askWhole)))
			if (err == nil) != row.ok || len(s.Requests()) != 2 || fetched.Load() != 2 {
				t.Errorf("got %v after %d calls with %d fetches", err, len(s.Requests()), fetched.Load())
			}
		})
	}
}

// AWS's clock is ten minutes ahead here: the signature is refused once.
func TestBedrockCorrectsItsClock(t *testing.T) {
	s := bedrocktest.New(t)
	s.Ahead = 10 * time.Minute
	b := newBedrock(t, s, nil)
	for range 2 {
		if _, err := collect(b.Chat(t.Context(), chatRequest(t, askWhole))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.Requests()); n != 3 {
		t.Errorf("got %d calls, want 3: one refused, then two good", n)
	}
}

func TestBedrockServesManyAtOnceAndLeavesNothingBehind(t *testing.T) {
	s := bedrocktest.New(t)
	before := goleak.IgnoreCurrent()
	b := newBedrock(t, s, nil)
	r := chatRequest(t, askStream)
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			for _, err := range b.Chat(t.Context(), r) {
				if err != nil {
					t.Error(err)
				}
				if i%3 == 0 {
					return // the client leaves early
				}
			}
		})
	}
	all.Wait()
	b.Close()
	s.CloseClientConnections()
	goleak.VerifyNone(t, before)
}

func TestBedrockAsksOnceMoreWithoutWhatTheModelLacks(t *testing.T) {
	refusal := func(message string) bedrocktest.Answer {
		return bedrocktest.Answer{Status: 400, ErrorType: "ValidationException", Body: `{"message":"` + message + `"}`}
	}
	ask := func(members string) string {
		return `{"model":"m","messages":[{"role":"user","content":"hi"}],` + members + `}`
	}
	tools := `"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{}}}}]`
	for _, row := range []struct{ name, ask, message, first, gone string }{
		{"trap 36: temperature is deprecated", ask(`"temperature":0.5`), "`temperature` is deprecated for this model.", "inferenceConfig.temperature", "inferenceConfig.temperature"},
		{"trap 35: temperature and top_p", ask(`"temperature":0.5,"top_p":0.9`), "`temperature` and `top_p` cannot both be specified for this model.", "inferenceConfig.topP", "inferenceConfig.topP"},
		{"trap 20: strict", ask(tools), "tools.0.custom.strict: Extra inputs are not permitted", "toolConfig.tools.0.toolSpec.strict", "toolConfig.tools.0.toolSpec.strict"},
		{"trap 52: structured output", ask(`"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}`), "output_config: Extra inputs are not permitted", "outputConfig", "outputConfig"},
		{"stop sequences", ask(`"stop":"END"`), "This model doesn't support the stopSequences field. Remove stopSequences and try again.", "inferenceConfig.stopSequences", "inferenceConfig.stopSequences"},
		{"cache points", `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]}`, "extraneous key [cachePoint] is not permitted", "messages.0.content.1", "messages.0.content.1"},
		{"trap 26: a start of the answer", `{"model":"m","messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`, "This model does not support assistant message prefill. The conversation must end with a user message.", "messages.1", "messages.3"},
		{"thinking by budget", ask(`"reasoning_effort":"low"`), `\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\".`, "additionalModelRequestFields.thinking.budget_tokens", "additionalModelRequestFields.thinking.budget_tokens"},
		{"trap 42: a service tier", ask(`"service_tier":"flex"`), "The provided service tier is not supported", "serviceTier", "serviceTier"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := bedrocktest.New(t, refusal(row.message), bedrocktest.Answer{Body: bedrocktest.WholeText("Hi.")})
			b := newBedrock(t, s, func(c *upstream.BedrockConfig) {
				if strings.Contains(row.name, "trap 35") {
					c.Capabilities.Sampling = "both"
				}
			})
			if _, err := collect(b.Chat(t.Context(), chatRequest(t, row.ask))); err != nil {
				t.Fatal(err)
			}
			calls := s.Requests()
			if len(calls) != 2 || !gjson.GetBytes(calls[0].Body, row.first).Exists() || gjson.GetBytes(calls[1].Body, row.gone).Exists() {
				t.Errorf("got %d calls: %s then %s", len(calls), calls[0].Body, calls[len(calls)-1].Body)
			}
		})
	}
}

func TestBedrockFallsBackToAWholeAnswerWhereToolsDoNotStream(t *testing.T) {
	s := bedrocktest.New(t,
		bedrocktest.Answer{Status: 400, ErrorType: "ValidationException", Body: `{"message":"This model doesn't support tool use in streaming mode."}`},
		bedrocktest.Answer{Body: bedrocktest.WholeText("Hi.")})
	r := chatRequest(t, `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f"}}]}`)
	got, err := translate.Join(newBedrock(t, s, nil).Chat(t.Context(), r))
	calls := s.Requests()
	if err != nil || len(calls) != 2 || calls[1].Operation != "converse" || gjson.GetBytes(got, "choices.0.message.content").Str != "Hi." {
		t.Errorf("got %s, %v after %d calls", got, err, len(calls))
	}
}

func TestBedrockDoesNotAskAgainForAnOrdinaryRefusal(t *testing.T) {
	s := bedrocktest.New(t, bedrocktest.Answer{Status: 400, ErrorType: "ValidationException", Body: `{"message":"messages.0 is bad"}`})
	if _, err := collect(newBedrock(t, s, nil).Chat(t.Context(), chatRequest(t, askWhole))); err == nil {
		t.Fatal("want an error")
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("got %d calls, want 1", n)
	}
}

// A stream is made of a whole answer where the model cannot stream calls.
func TestBedrockStreamsByConverseWhereToolsCannotStream(t *testing.T) {
	s := bedrocktest.New(t, bedrocktest.Answer{Body: `{"output":{"message":{"role":"assistant","content":[{"text":"Let me see."},{"toolUse":{"toolUseId":"t1","name":"f","input":{"x":1}}}]}},"stopReason":"tool_use","usage":{"inputTokens":1,"outputTokens":2}}`})
	b := newBedrock(t, s, func(c *upstream.BedrockConfig) { c.Model = "meta.llama3-1-70b-instruct-v1:0" })
	r := chatRequest(t, `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f"}}]}`)
	got, err := translate.Join(b.Chat(t.Context(), r))
	if err != nil {
		t.Fatal(err)
	}
	if s.Requests()[0].Operation != "converse" || gjson.GetBytes(got, "choices.0.message.tool_calls.0.function.arguments").Str != `{"x":1}` ||
		gjson.GetBytes(got, "choices.0.finish_reason").Str != "tool_calls" {
		t.Errorf("got %s from %s", got, s.Requests()[0].Operation)
	}
}

// TestTrap43AnOpaqueProfileIsResolvedOnce asks the control plane what an
// application inference profile stands for.
func TestTrap43AnOpaqueProfileIsResolvedOnce(t *testing.T) {
	const arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"
	var asked atomic.Int32
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodGet || r.URL.Path != "/inference-profiles/"+arn || r.Header.Get("Authorization") == "" {
			t.Errorf("got %s %s, authorized by %q", r.Method, r.URL.Path, r.Header.Get("Authorization"))
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"inferenceProfileArn":"` + arn + `","models":[{"modelArn":"arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-opus-4-8"}]}`))
	}))
	t.Cleanup(control.Close)
	s := bedrocktest.New(t)
	b := newBedrock(t, s, func(c *upstream.BedrockConfig) { c.Model, c.ControlEndpoint = arn, control.URL })
	r := chatRequest(t, `{"model":"m","temperature":0.5,"messages":[{"role":"user","content":"hi"}]}`)
	for range 2 {
		chunks, err := collect(b.Chat(t.Context(), r))
		if err != nil {
			t.Fatal(err)
		}
		if d := chunks[0].Head.Dropped; len(d) != 1 || d[0] != "temperature" {
			t.Errorf("got dropped %v, want temperature: the profile stands for a Claude that takes none", d)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times, want once", asked.Load())
	}
}

func TestAnOpaqueProfileThatCannotBeResolvedIsAnUnknownModel(t *testing.T) {
	const arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"
	var asked atomic.Int32
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, `{"message":"no"}`, http.StatusForbidden)
	}))
	t.Cleanup(control.Close)
	s := bedrocktest.New(t)
	b := newBedrock(t, s, func(c *upstream.BedrockConfig) { c.Model, c.ControlEndpoint = arn, control.URL })
	for range 2 {
		if _, err := collect(b.Chat(t.Context(), chatRequest(t, askWhole))); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times within minutes, want once", asked.Load())
	}
}

func TestBedrockInvokesAModelWithItsOwnBody(t *testing.T) {
	s := bedrocktest.New(t, bedrocktest.Answer{Body: `{"embedding":[0.1]}`, Header: http.Header{"X-Amzn-Bedrock-Input-Token-Count": {"3"}}})
	answer, header, err := newBedrock(t, s, nil).Invoke(t.Context(), "amazon.titan-embed-text-v2:0", []byte(`{"inputText":"hi"}`))
	if err != nil {
		t.Fatal(err)
	}
	r := s.Requests()[0]
	if string(answer) != `{"embedding":[0.1]}` || header.Get("X-Amzn-Bedrock-Input-Token-Count") != "3" ||
		r.Operation != "invoke" || r.Model != "amazon.titan-embed-text-v2:0" || string(r.Body) != `{"inputText":"hi"}` {
		t.Errorf("got %s, %v, %+v", answer, header, r)
	}
}
