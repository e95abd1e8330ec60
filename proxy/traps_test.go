package proxy_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/proxy/upstream"
	"github.com/inference-router/inference-router/routing"
)

// The traps of pass-through and embeddings, by their numbers in the list of what
// other gateways got wrong; those of the dialects are tested beside them.

func piece(text, finish string) string {
	return fmt.Sprintf(`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":%q},"finish_reason":%s}]}`, text, finish)
}

// streams is a handler that sends raw text as an event stream.
func streams(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, raw)
	}
}

func TestTrap59UsageIsAskedForButNotShown(t *testing.T) {
	usage := `{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`
	for _, refuses := range []bool{false, true} {
		var calls atomic.Int64
		s := newStage(t, oneTier(remote(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			asked := gjson.GetBytes(body, "stream_options.include_usage").Bool()
			if calls.Add(1); asked && refuses {
				answers(400, `{"error":{"message":"Unknown parameter: stream_options","type":"invalid_request_error"}}`)(w, r)
				return
			}
			if !refuses && (!asked || !gjson.GetBytes(body, "stream").Bool()) {
				t.Errorf("upstream got %s", body)
			}
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprintf(w, "data: %s\n\n", strings.TrimSuffix(piece("hi", `"stop"`), "}")+`,"usage":null}`)
			if asked {
				fmt.Fprintf(w, "data: %s\n\n", usage)
			}
			io.WriteString(w, "data: [DONE]\n\n")
		})), nil)
		_, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"stream":true`, `"stream_options":{"include_usage":false}`))
		if want := "data: " + piece("hi", `"stop"`) + "\n\ndata: [DONE]\n\n"; body != want {
			t.Errorf("refuses %v: got %q, want %q", refuses, body, want)
		}
		if s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"stream":true`)); refuses && calls.Load() != 3 {
			t.Errorf("%d calls: the refusal was not remembered", calls.Load())
		}
	}
}

func TestTrap67NothingIsRepeatedAfterTheFirstByte(t *testing.T) {
	var second atomic.Int64
	s := newStage(t, oneTier(remote(t, func(w http.ResponseWriter, r *http.Request) {
		streams("data: "+piece("half", "null")+"\n\n")(w, r)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}), remote(t, func(http.ResponseWriter, *http.Request) { second.Add(1) })), nil)
	_, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"stream":true`))
	if second.Load() != 0 || strings.Count(body, "half") != 1 || strings.Contains(body, "[DONE]") {
		t.Errorf("second upstream called %d times: %s", second.Load(), body)
	}
}

func TestTraps70To74OfStreams(t *testing.T) {
	long := strings.Repeat("long ", 40_000)
	var many strings.Builder
	for i := range 500 {
		fmt.Fprintf(&many, "data: %s\n\n", piece(fmt.Sprint(i, " "), "null"))
	}
	many.WriteString("data: " + piece("", `"stop"`) + "\n\ndata: [DONE]\n\n")
	var counted strings.Builder
	for i := range 500 {
		fmt.Fprint(&counted, i, " ")
	}
	for _, c := range []struct{ name, raw, want string }{
		{"trap 70: a line of 200 KB", "data: " + piece(long, `"stop"`) + "\n\ndata: [DONE]\n\n", long},
		{"trap 71: no space after data, and CRLF", "data:" + piece("hi", `"stop"`) + "\r\n\r\ndata:[DONE]\r\n\r\n", "hi"},
		{"trap 74: five hundred chunks in their order", many.String(), counted.String()},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, oneTier(remote(t, streams(c.raw))), nil)
			client := s.client()
			stream := client.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{
				Model: "auto", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}})
			text := ""
			for stream.Next() {
				text += stream.Current().Choices[0].Delta.Content
			}
			if stream.Err() != nil || text != c.want {
				t.Errorf("got %d bytes, %v, want %d", len(text), stream.Err(), len(c.want))
			}
		})
	}
	s := newStage(t, oneTier(remote(t, streams("data: "+piece("hi", `"stop"`)+"\n\ndata: [DONE]\n\n"))), nil)
	resp, _ := s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"stream":true`))
	if resp.Header.Get("X-Accel-Buffering") != "no" || resp.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("trap 72: proxies in between will buffer: %v", resp.Header)
	}
}

func TestTrap73CompressedAnswersLeaveNoStaleHeaders(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, wholeAnswer)
	z.Close()
	for _, status := range []int{200, 400} {
		s := newStage(t, oneTier(remote(t, answers(status, packed.String(), "Content-Encoding", "gzip"))), nil)
		resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"))
		if resp.StatusCode != status || body != wholeAnswer || resp.Header.Get("Content-Encoding") != "" || resp.ContentLength != int64(len(wholeAnswer)) {
			t.Errorf("%d: got %d, %d bytes, %v", status, resp.StatusCode, len(body), resp.Header)
		}
	}
}

func TestTrap78ErrorsAreObjectsWithTextCodes(t *testing.T) {
	for _, upstreams := range []string{`{"error":"plain text"}`, `{"error":{"message":"m","code":1234}}`, `{"detail":"elsewhere"}`, `not JSON`} {
		s := newStage(t, oneTier(remote(t, answers(500, upstreams))), nil)
		_, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"))
		e := gjson.Get(body, "error")
		if !e.IsObject() || e.Get("message").Type != gjson.String || e.Get("type").Type != gjson.String || e.Get("code").Type != gjson.String || !e.Get("param").Exists() {
			t.Errorf("%s became %s", upstreams, body)
		}
	}
}

func TestTrap87RequestsAreNotDecodedIntoStructs(t *testing.T) {
	var sent string
	s := newStage(t, oneTier(remote(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		sent = string(b)
		answers(200, wholeAnswer)(w, r)
	})), nil)
	const tail = `"tool_choice":{"type":"function","function":{"name":"f"}},"top_k":40,"tools":[{"type":"function","function":{"name":"f","parameters":{"b":1.0,"a":9007199254740993,"c":1e-7}}}]`
	s.post(t, "/v1/chat/completions", chatBody("auto", "hi", tail))
	if !strings.HasSuffix(sent, tail+"}") {
		t.Errorf("upstream got %s", sent)
	}
}

// invoker is a Bedrock model that gives fixed answers.
type invoker func(body []byte) (string, http.Header)

func (f invoker) Invoke(_ context.Context, _ string, body []byte) ([]byte, http.Header, error) {
	answer, h := f(body)
	return []byte(answer), h, nil
}

func TestTraps81To83OfEmbeddings(t *testing.T) {
	stageFor := func(model string, answer invoker) *stage {
		e, err := upstream.NewBedrockEmbeddings(upstream.BedrockEmbeddingsConfig{Name: "e", Model: model, Client: answer})
		if err != nil {
			t.Fatal(err)
		}
		return newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
			c.Embeddings = []proxy.Deployment{{Name: "bedrock/" + model, Provider: "bedrock", Model: model, Embedder: e, Price: price(1, 0)}}
		})
	}
	titan := stageFor("amazon.titan-embed-text-v2:0", func([]byte) (string, http.Header) {
		return `{"embedding":[1,0.5],"inputTextTokenCount":3}`, nil
	})
	resp, body := titan.post(t, "/v1/embeddings", `{"model":"auto","input":"hello","encoding_format":"base64"}`)
	raw, err := base64.StdEncoding.DecodeString(gjson.Get(body, "data.0.embedding").Str)
	if err != nil || !bytes.Equal(raw, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x3f}) || resp.Header.Get("X-Router-Cost-USD") != "0.000003" {
		t.Errorf("trap 81: base64 of little-endian floats, got %s, cost %s", body, resp.Header.Get("X-Router-Cost-USD"))
	}
	var asked string
	cohere := stageFor("cohere.embed-english-v3", func(b []byte) (string, http.Header) {
		asked = gjson.GetBytes(b, "input_type").Str
		return `{"embeddings":{"float":[[1,2]]},"response_type":"embeddings_by_type"}`, http.Header{"X-Amzn-Bedrock-Input-Token-Count": {"4"}}
	})
	_, body = cohere.post(t, "/v1/embeddings", `{"model":"auto","input":["hello"],"input_type":"search_query"}`)
	if gjson.Get(body, "data.0.embedding").Raw != "[1,2]" || gjson.Get(body, "usage.prompt_tokens").Int() != 4 {
		t.Errorf("trap 82: embeddings by type, got %s", body)
	}
	if asked != "search_query" {
		t.Errorf("trap 83: input_type %q", asked)
	}
}
