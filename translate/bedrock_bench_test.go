package translate

import (
	"strings"
	"testing"
)

// benchmarkBody is a conversation of about size bytes.
func benchmarkBody(size int) []byte {
	var b strings.Builder
	b.WriteString(`{"model":"m","stream":true,"stream_options":{"include_usage":true},"max_tokens":100,"temperature":0.5,"messages":[{"role":"system","content":"Be brief."}`)
	for b.Len() < size {
		b.WriteString(`,{"role":"user","content":"` + strings.Repeat("What is the capital of France? ", 10) + `"},{"role":"assistant","content":"It is \"Paris\".\nAnything else?"}`)
	}
	b.WriteString(`,{"role":"user","content":"No."}]}`)
	return []byte(b.String())
}

func BenchmarkToBedrock(b *testing.B) {
	for name, size := range map[string]int{"1KB": 1 << 10, "10KB": 10 << 10, "100KB": 100 << 10} {
		b.Run(name, func(b *testing.B) {
			r := &Request{Body: benchmarkBody(size), Stream: true}
			o := BedrockOptions{Capabilities: LookupCapabilities("bedrock", claude45)}
			b.ReportAllocs()
			b.SetBytes(int64(len(r.Body)))
			for b.Loop() {
				if _, err := ToBedrock(r, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFromBedrockStream is per event.
func BenchmarkFromBedrockStream(b *testing.B) {
	r := &Request{Body: benchmarkBody(100), Stream: true, IncludeUsage: true}
	q, err := ToBedrock(r, BedrockOptions{Capabilities: LookupCapabilities("bedrock", claude45)})
	if err != nil {
		b.Fatal(err)
	}
	delta := BedrockEvent{Type: "contentBlockDelta", Payload: []byte(`{"contentBlockIndex":0,"delta":{"text":" the capital of France"},"p":"abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"}`)}
	b.ReportAllocs()
	events := func(yield func(BedrockEvent, error) bool) {
		for b.Loop() {
			if !yield(delta, nil) {
				return
			}
		}
	}
	for range FromBedrockStream(q, events, testHead) {
	}
}

func BenchmarkFromBedrock(b *testing.B) {
	q, err := ToBedrock(&Request{Body: benchmarkBody(100)}, BedrockOptions{Capabilities: LookupCapabilities("bedrock", claude45)})
	if err != nil {
		b.Fatal(err)
	}
	answer := []byte(`{"output":{"message":{"role":"assistant","content":[{"text":"` + strings.Repeat("The capital of France is Paris. ", 30) + `"}]}},"stopReason":"end_turn","usage":{"inputTokens":10,"outputTokens":200}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := FromBedrock(q, answer, testHead); err != nil {
			b.Fatal(err)
		}
	}
}
