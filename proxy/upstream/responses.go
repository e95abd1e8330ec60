package upstream

import (
	"cmp"
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"time"

	"github.com/inference-router/inference-router/translate"
)

// ResponsesConfig says how to speak to an OpenAI-compatible API in the
// Responses dialect.
type ResponsesConfig struct {
	OpenAIConfig
	Model string
	// Chat leaves chat requests to the API's chat completions; off, they are
	// translated, for models that refuse tools there.
	Chat      bool
	Translate translate.Options
	Seal      *translate.Seal // for reasoning that chat clients carry back
}

// Responses calls a model through the Responses API: requests of that dialect
// as they came, chat requests translated.
type Responses struct {
	*OpenAI
	config    ResponsesConfig
	responses *url.URL
}

// NewResponses makes an upstream of a Responses API.
func NewResponses(c ResponsesConfig) (*Responses, error) {
	u, err := NewOpenAI(c.OpenAIConfig)
	if err != nil {
		return nil, err
	}
	return &Responses{OpenAI: u, config: c, responses: u.endpoint("/responses")}, nil
}

// Chat sends r in the dialect that the model is spoken to in.
func (u *Responses) Chat(ctx context.Context, r *translate.Request) translate.Chunks {
	switch {
	case r.Dialect == translate.DialectResponses:
		return u.native(ctx, r)
	case u.config.Chat:
		return u.OpenAI.Chat(ctx, r)
	}
	return u.translated(ctx, r)
}

// native passes a request of the dialect on, and its answer.
func (u *Responses) native(ctx context.Context, r *translate.Request) translate.Chunks {
	return exchange{
		post: func(ctx context.Context) (*http.Response, error) {
			return post(ctx, u.via, u.responses, u.headers(r.ClientKey, r.Forward), r.Body)
		},
		refused: u.statusError,
		stream:  r.Stream,
		events: func(events eventSeq, id string) translate.Chunks {
			return translate.FromNative(translate.DialectResponses, events, id)
		},
		whole: func(body []byte, id string) (translate.Chunk, error) {
			return translate.WholeNative(translate.DialectResponses, body, id)
		},
	}.chunks(ctx)
}

// translated puts a chat request to the model.
func (u *Responses) translated(ctx context.Context, r *translate.Request) translate.Chunks {
	return func(yield func(translate.Chunk, error) bool) {
		q, err := translate.ToResponses(r, translate.ResponsesOptions{Options: u.config.Translate, Seal: u.config.Seal,
			Family: translate.ReasoningFamily(u.config.Provider, u.config.Model)})
		if err != nil {
			yield(translate.Chunk{}, err)
			return
		}
		head := func(id string) translate.AnswerHead {
			return translate.AnswerHead{ID: "chatcmpl-" + rand.Text(), Created: time.Now().Unix(), RequestID: id,
				Model: cmp.Or(r.AnswerModel, u.config.Provider+"/"+u.config.Model)}
		}
		exchange{
			post: func(ctx context.Context) (*http.Response, error) {
				return post(ctx, u.via, u.responses, u.headers(r.ClientKey, r.Forward), q.Body)
			},
			refused: u.statusError,
			stream:  r.Stream,
			events: func(events eventSeq, id string) translate.Chunks {
				return translate.FromResponsesStream(q, events, head(id))
			},
			whole: func(body []byte, id string) (translate.Chunk, error) {
				return translate.FromResponses(q, body, head(id))
			},
		}.chunks(ctx)(yield)
	}
}
