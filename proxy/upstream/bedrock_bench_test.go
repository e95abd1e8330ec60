package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/inference-router/inference-router/proxy/upstream"
	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
	"github.com/inference-router/inference-router/translate"
)

// answerWith is a server that answers every request with the same bytes.
func answerWith(b *testing.B, contentType, body string) string {
	b.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	}))
	b.Cleanup(s.Close)
	return s.URL
}

// BenchmarkWhole compares an answer translated from Bedrock with one that is
// passed through; the difference is what translation and the AWS SDK cost.
func BenchmarkWhole(b *testing.B) {
	r, err := translate.ParseRequest([]byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("What is the capital of France? ", 32) + `"}]}`))
	if err != nil {
		b.Fatal(err)
	}
	said := strings.Repeat("It is Paris. ", 20)
	openai, err := upstream.NewOpenAI(upstream.OpenAIConfig{BaseURL: answerWith(b, "application/json",
		`{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"`+said+`"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`)})
	if err != nil {
		b.Fatal(err)
	}
	bedrock, err := upstream.NewBedrock(upstream.BedrockConfig{Model: testModel, Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider("A", "S", ""),
		Endpoint:    answerWith(b, "application/json", bedrocktest.WholeText(said))})
	if err != nil {
		b.Fatal(err)
	}
	for name, chat := range map[string]func() translate.Chunks{
		"passed through": func() translate.Chunks { return openai.Chat(b.Context(), r) },
		"Bedrock":        func() translate.Chunks { return bedrock.Chat(b.Context(), r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, err := range chat() {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
