package upstream

import (
	"context"
	"encoding/json"

	"github.com/inference-router/inference-router/translate"
)

// Echo is an upstream that says the prompt back: a template for one of your
// own. Call your API with ctx, yield what comes as OpenAI's JSON, and report
// the tokens; everything else is the router's.
func Echo(ctx context.Context, r *translate.Request) translate.Chunks {
	return func(yield func(translate.Chunk, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(translate.Chunk{}, context.Cause(ctx))
			return
		}
		text, _ := json.Marshal(r.Prompt())
		object, part := "chat.completion", "message"
		if r.Stream {
			object, part = "chat.completion.chunk", "delta"
		}
		yield(translate.Chunk{
			Data: []byte(`{"id":"echo","object":"` + object + `","created":0,"model":"echo","choices":[{"index":0,"` + part +
				`":{"role":"assistant","content":` + string(text) + `},"finish_reason":"stop"}]}`),
			Whole:       !r.Stream,
			Finish:      "stop",
			OutputBytes: int64(len(r.Prompt())),
			Usage:       &translate.Usage{InputTokens: r.InputBytes, OutputTokens: int64(len(r.Prompt()))},
			Head:        &translate.Head{RequestID: "echo"},
		}, nil)
	}
}
