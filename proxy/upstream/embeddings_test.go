package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
	"github.com/inference-router/inference-router/translate"
)

// invokerFunc is an Invoker made of a function.
type invokerFunc func(ctx context.Context, model string, body []byte) ([]byte, http.Header, error)

func (f invokerFunc) Invoke(ctx context.Context, model string, body []byte) ([]byte, http.Header, error) {
	return f(ctx, model, body)
}

// titan answers each text, a number, with a vector of that number.
func titan(ctx context.Context, _ string, body []byte) ([]byte, http.Header, error) {
	text := gjson.GetBytes(body, "inputText").Str
	header := http.Header{"X-Amzn-Requestid": {"request-" + text}}
	return fmt.Appendf(nil, `{"embedding":[%s],"inputTextTokenCount":2}`, text), header, ctx.Err()
}

func bedrockEmbeddings(t *testing.T, model string, f invokerFunc) *BedrockEmbeddings {
	t.Helper()
	b, err := NewBedrockEmbeddings(BedrockEmbeddingsConfig{Name: "bedrock/" + model, Model: model, Client: f})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func embeddingRequest(t *testing.T, texts int) *translate.EmbeddingRequest {
	t.Helper()
	input := make([]string, texts)
	for i := range input {
		input[i] = strconv.Itoa(i)
	}
	body, err := json.Marshal(map[string]any{"input": input})
	if err != nil {
		t.Fatal(err)
	}
	r, err := translate.ParseEmbedding(body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEmbedKeepsTheOrderOfItsInputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int64
		b := bedrockEmbeddings(t, "amazon.titan-embed-text-v2:0", func(ctx context.Context, model string, body []byte) ([]byte, http.Header, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			// Later texts are answered earlier.
			n, _ := strconv.Atoi(gjson.GetBytes(body, "inputText").Str)
			time.Sleep(time.Duration(100-n) * time.Millisecond)
			return titan(ctx, model, body)
		})
		answer, err := b.Embed(t.Context(), embeddingRequest(t, 50))
		if err != nil {
			t.Fatal(err)
		}
		data := gjson.GetBytes(answer.Body, "data").Array()
		if len(data) != 50 {
			t.Fatalf("got %d vectors, want 50", len(data))
		}
		for i, d := range data {
			if d.Get("index").Int() != int64(i) || d.Get("embedding.0").Int() != int64(i) {
				t.Errorf("vector %d: got %s", i, d.Raw)
			}
		}
		if answer.Usage == nil || answer.Usage.InputTokens != 100 {
			t.Errorf("got usage %+v, want 100 input tokens", answer.Usage)
		}
		if got := gjson.GetBytes(answer.Body, "model").Str; got != "bedrock/amazon.titan-embed-text-v2:0" {
			t.Errorf("got model %q, want the upstream's name", got)
		}
		if answer.RequestID != "request-0" {
			t.Errorf("got request id %q, want that of the first call", answer.RequestID)
		}
		if most.Load() != maxEmbeddingCalls {
			t.Errorf("got %d calls at a time, want %d", most.Load(), maxEmbeddingCalls)
		}
	})
}

func TestOneFailedCallEndsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := &translate.UpstreamError{Kind: translate.KindRateLimited, Status: 429, Message: "slow down"}
		var mu sync.Mutex
		calls, cancelled := 0, 0
		b := bedrockEmbeddings(t, "amazon.titan-embed-text-v2:0", func(ctx context.Context, model string, body []byte) ([]byte, http.Header, error) {
			mu.Lock()
			calls++
			mu.Unlock()
			switch gjson.GetBytes(body, "inputText").Str {
			case "0":
				return titan(ctx, model, body)
			case "3":
				time.Sleep(time.Second)
				return nil, nil, refused
			}
			<-ctx.Done()
			mu.Lock()
			cancelled++
			mu.Unlock()
			return nil, nil, ctx.Err()
		})
		_, err := b.Embed(t.Context(), embeddingRequest(t, 100))
		var failed *translate.UpstreamError
		if !errors.As(err, &failed) || failed.Kind != translate.KindRateLimited {
			t.Fatalf("got %v, want the refusal and not what it caused", err)
		}
		if failed.Billed != translate.BilledPartly {
			t.Errorf("got billed %v, want partly: one call had been answered", failed.Billed)
		}
		if refused.Billed != translate.BilledNothing {
			t.Error("the client's error was changed")
		}
		if calls != 9 || cancelled != 7 {
			t.Errorf("got %d calls, %d of them cancelled; want 9 and 7: none begins after the failure", calls, cancelled)
		}
	})
}

func TestEmbedEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("client gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		b := bedrockEmbeddings(t, "amazon.titan-embed-text-v2:0", func(ctx context.Context, _ string, _ []byte) ([]byte, http.Header, error) {
			<-ctx.Done()
			return nil, nil, &translate.UpstreamError{Kind: translate.KindConnect, Err: ctx.Err()}
		})
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := b.Embed(ctx, embeddingRequest(t, 3)); !errors.Is(err, gone) {
			t.Errorf("got %v, want the cause", err)
		}
	})
}

func TestAnUnreadableEmbeddingIsABadResponse(t *testing.T) {
	b := bedrockEmbeddings(t, "cohere.embed-v4:0", func(context.Context, string, []byte) ([]byte, http.Header, error) {
		return []byte(`{"embeddings":{"float":[[1],[2]]}}`), http.Header{}, nil
	})
	_, err := b.Embed(t.Context(), embeddingRequest(t, 3))
	var failed *translate.UpstreamError
	if !errors.As(err, &failed) || failed.Kind != translate.KindBadResponse || failed.Billed != translate.BilledPartly {
		t.Errorf("got %#v, want a bad response that was billed", err)
	}
}

func TestUnsupportedDimensionsAreTheClientsMistake(t *testing.T) {
	b := bedrockEmbeddings(t, "amazon.titan-embed-text-v2:0", func(context.Context, string, []byte) ([]byte, http.Header, error) {
		t.Error("a call was made")
		return nil, nil, errors.New("refused")
	})
	r, err := translate.ParseEmbedding([]byte(`{"input":"a","dimensions":1536}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Embed(t.Context(), r)
	var invalid *translate.InvalidError
	if !errors.As(err, &invalid) || invalid.Param != "dimensions" || !strings.Contains(invalid.Message, "256, 512, 1024") {
		t.Errorf("got %v, want dimensions to be refused and those on offer named", err)
	}
}

func TestNewBedrockEmbeddingsRefusesAnUnknownModel(t *testing.T) {
	if _, err := NewBedrockEmbeddings(BedrockEmbeddingsConfig{Model: "meta.llama"}); err == nil {
		t.Error("got no error")
	}
}

func openAIEmbeddings(t *testing.T, h http.HandlerFunc) *OpenAIEmbeddings {
	t.Helper()
	o, err := NewOpenAIEmbeddings(OpenAIConfig{Name: "test", BaseURL: serve(t, h) + "/v1", APIKey: "sk-canary"}, "text-embedding-3-small")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.Close)
	return o
}

func TestAnEmbeddingPassesThroughByteForByte(t *testing.T) {
	const answer = "{\"object\":\"list\", \"data\":[{\"embedding\":\"AAAA\"}],\n \"usage\":{\"prompt_tokens\":5,\"total_tokens\":5}}\n"
	o := openAIEmbeddings(t, func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(r.Body)
		if want := `{"model": "text-embedding-3-small", "input":"a","x":1.0}`; err != nil || string(sent) != want {
			t.Errorf("got %s, want %s", sent, want)
		}
		if r.URL.Path != "/v1/embeddings" || r.Header.Get("Authorization") != "Bearer sk-canary" || r.Header.Get("Traceparent") != "tp" {
			t.Errorf("got %s with %v", r.URL.Path, r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "req-1")
		fmt.Fprint(w, answer)
	})
	r, err := translate.ParseEmbedding([]byte(`{"model": "embed", "input":"a","x":1.0}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Forward = map[string]string{"Traceparent": "tp"}
	got, err := o.Embed(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Body) != answer || got.RequestID != "req-1" || got.Usage == nil || got.Usage.InputTokens != 5 {
		t.Errorf("got %s, %+v", got.Body, got)
	}
}

func TestEmbeddingsFailAsTheUpstreamDoes(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		want   translate.Kind
	}{
		"the client's mistake": {400, `{"error":{"message":"too many dimensions","type":"invalid_request_error","param":"dimensions","code":null}}`, translate.KindInvalid},
		"limited":              {429, `{"error":{"message":"slow","type":"rate_limit_error"}}`, translate.KindRateLimited},
		"our key":              {401, `{"error":{"message":"Incorrect API key provided: sk-canary"}}`, translate.KindAuth},
		"down":                 {502, `<html>`, translate.KindServer},
		"no answer":            {200, `<html>`, translate.KindBadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			o := openAIEmbeddings(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			})
			_, err := o.Embed(t.Context(), embeddingRequest(t, 1))
			var failed *translate.UpstreamError
			if !errors.As(err, &failed) || failed.Kind != tt.want {
				t.Fatalf("got %v, want %s", err, tt.want)
			}
			if tt.want == translate.KindInvalid && string(failed.Body) != tt.body {
				t.Errorf("got body %s, want it as it came", failed.Body)
			}
			if strings.Contains(failed.Message, "canary") {
				t.Errorf("the message tells our key: %s", failed.Message)
			}
		})
	}
}

func TestAPassThroughEmbeddingEndsWithItsContext(t *testing.T) {
	gone := errors.New("client gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	left := make(chan struct{})
	o := openAIEmbeddings(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel(gone)
		<-r.Context().Done()
		close(left)
	})
	if _, err := o.Embed(ctx, embeddingRequest(t, 1)); !errors.Is(err, gone) {
		t.Errorf("got %v, want the cause", err)
	}
	<-left
}

func TestEmbeddingsThroughTheBedrockClient(t *testing.T) {
	fake := bedrocktest.New(t, bedrocktest.Answer{
		Header: http.Header{"X-Amzn-Bedrock-Input-Token-Count": {"7"}},
		Body:   `{"embeddings":{"float":[[0.5],[1]]},"response_type":"embeddings_by_type"}`,
	})
	b, err := NewBedrock(BedrockConfig{
		Name: "test", Model: "cohere.embed-v4:0", Region: bedrocktest.Region, Endpoint: fake.URL,
		Credentials: credentials.NewStaticCredentialsProvider(bedrocktest.AccessKey, bedrocktest.SecretKey, ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	e, err := NewBedrockEmbeddings(BedrockEmbeddingsConfig{Name: "bedrock/cohere.embed-v4:0", Model: "cohere.embed-v4:0", InputType: "search_query", Client: b})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := e.Embed(t.Context(), embeddingRequest(t, 2))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]},{"object":"embedding","index":1,"embedding":[1]}],` +
		`"model":"bedrock/cohere.embed-v4:0","usage":{"prompt_tokens":7,"total_tokens":7}}`
	if string(answer.Body) != want || answer.RequestID != "req-fake" {
		t.Errorf("got %s (%s), want %s", answer.Body, answer.RequestID, want)
	}
	if sent := fake.Requests()[0]; sent.Operation != "invoke" || sent.Model != "cohere.embed-v4:0" || string(sent.Body) != `{"texts":["0","1"],"input_type":"search_query"}` {
		t.Errorf("got %s of %s with %s", sent.Operation, sent.Model, sent.Body)
	}
}

func TestAProfileIsAskedForOnceInFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		var answer atomic.Value
		answer.Store("")
		b, err := NewBedrockEmbeddings(BedrockEmbeddingsConfig{
			Name: "e", Model: "arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/emb1", Client: invokerFunc(titan),
			Resolve: func(context.Context) string {
				asked.Add(1)
				time.Sleep(time.Second)
				return answer.Load().(string)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(requests int, known bool, total int32) {
			t.Helper()
			var all sync.WaitGroup
			for range requests {
				all.Go(func() {
					_, err := b.Embed(t.Context(), embeddingRequest(t, 1))
					var failed *translate.UpstreamError
					if known && err != nil || !known && (!errors.As(err, &failed) || failed.Kind != translate.KindNotFound || !strings.Contains(failed.Message, "capabilities.family")) {
						t.Errorf("known %v: got %v", known, err)
					}
				})
			}
			all.Wait()
			if got := asked.Load(); got != total {
				t.Errorf("AWS was asked %d times, want %d", got, total)
			}
		}
		ask(3, false, 1)
		time.Sleep(profileRetry - time.Second)
		ask(1, false, 1)
		answer.Store("arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-embed-text-v2:0")
		time.Sleep(time.Second)
		ask(3, true, 2)
		time.Sleep(2 * profileRetry)
		ask(1, true, 2)
	})
}

// One client's leaving must not leave the others without a model for minutes.
func TestAProfileIsResolvedAlthoughItsFirstClientLeaves(t *testing.T) {
	const arn = "arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/emb1"
	ctx, cancel := context.WithCancel(t.Context())
	control := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		fmt.Fprint(w, `{"models":[{"modelArn":"arn:aws:bedrock:us-east-1::foundation-model/cohere.embed-v4:0"}]}`)
	})
	b, err := NewBedrock(BedrockConfig{
		Name: "test", Model: arn, Region: bedrocktest.Region, Endpoint: control, ControlEndpoint: control,
		Credentials: credentials.NewStaticCredentialsProvider(bedrocktest.AccessKey, bedrocktest.SecretKey, ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if got := b.FoundationModel(ctx); !strings.HasSuffix(got, "cohere.embed-v4:0") {
		t.Errorf("got %q", got)
	}
}

// F10: what the operator says of a profile is enough; AWS is not asked.
func TestAnOpaqueProfileSpeaksAsTheFamilyNamed(t *testing.T) {
	const arn = "arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/emb1"
	for family, tt := range map[string]struct{ answer, sent string }{
		"amazon.titan-embed-text-v2:0": {`{"embedding":[0.5],"inputTextTokenCount":2}`, `{"inputText":"0"}`},
		"cohere.embed-v4:0":            {`{"embeddings":{"float":[[0.5]]}}`, `{"texts":["0"],"input_type":"search_document"}`},
		"us.cohere.embed-v4:0":         {`{"embeddings":{"float":[[0.5]]}}`, `{"texts":["0"],"input_type":"search_document"}`},
	} {
		b, err := NewBedrockEmbeddings(BedrockEmbeddingsConfig{
			Name: "bedrock/emb1", Model: arn, Family: family,
			Resolve: func(context.Context) string { t.Error("AWS was asked"); return "" },
			Client: invokerFunc(func(_ context.Context, model string, body []byte) ([]byte, http.Header, error) {
				if model != arn || string(body) != tt.sent {
					t.Errorf("%s: sent %s to %s, want %s to the profile", family, body, model, tt.sent)
				}
				return []byte(tt.answer), http.Header{}, nil
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := b.Embed(t.Context(), embeddingRequest(t, 1))
		if err != nil {
			t.Fatal(err)
		}
		if got := gjson.GetBytes(answer.Body, "data.0.embedding").Raw; got != "[0.5]" {
			t.Errorf("%s: got %s", family, answer.Body)
		}
	}
}
