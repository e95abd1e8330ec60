package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-router/inference-router/translate"
)

var question = asking("why is the sky blue?")

// asking is the request with a prompt, of a known size.
func asking(prompt string) *translate.Request {
	content, _ := json.Marshal(prompt) // a string always marshals
	r, err := translate.ParseRequest([]byte(`{"messages":[{"role":"user","content":` + string(content) + `}]}`))
	if err != nil {
		panic(err)
	}
	r.InputBytes = 80
	return r
}

// with returns the question with something changed.
func with(change func(*translate.Request)) *translate.Request {
	r := *question
	change(&r)
	return &r
}

// simulatedJSON is what an OpenAI client reads of a completion or a chunk.
type simulatedJSON struct {
	ID, Object, Model string
	Created           int64
	Choices           []struct {
		Index          int
		Message, Delta struct{ Role, Content string }
		FinishReason   *string `json:"finish_reason"`
	}
	Usage *struct {
		Prompt     int64 `json:"prompt_tokens"`
		Completion int64 `json:"completion_tokens"`
		Total      int64 `json:"total_tokens"`
	}
}

// collected is everything an answer said.
type collected struct {
	events []simulatedJSON
	usage  *translate.Usage
	bytes  int64
	heads  int
	ttft   time.Duration
	took   time.Duration
	err    error
}

func (c collected) text(choice int) string {
	var b strings.Builder
	for _, e := range c.events {
		for _, ch := range e.Choices {
			if ch.Index == choice {
				b.WriteString(ch.Message.Content + ch.Delta.Content)
			}
		}
	}
	return b.String()
}

func (c collected) finishes() (reasons []string) {
	for _, e := range c.events {
		for _, ch := range e.Choices {
			if ch.FinishReason != nil {
				reasons = append(reasons, *ch.FinishReason)
			}
		}
	}
	return reasons
}

func collect(t *testing.T, s *Simulated, r *translate.Request) collected {
	t.Helper()
	var all collected
	start := time.Now()
	for chunk, err := range s.Chat(t.Context(), r) {
		if err != nil {
			all.err = err
			break
		}
		if all.ttft == 0 {
			all.ttft = time.Since(start)
		}
		if chunk.Head != nil {
			all.heads++
		}
		if chunk.Usage != nil {
			all.usage = chunk.Usage
		}
		all.bytes += chunk.OutputBytes
		if len(chunk.Data) == 0 {
			continue
		}
		var e simulatedJSON
		if err := json.Unmarshal(chunk.Data, &e); err != nil {
			t.Fatalf("%v in %s", err, chunk.Data)
		}
		all.events = append(all.events, e)
	}
	all.took = time.Since(start)
	return all
}

func TestSimulatedWholeAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSimulated(SimulatedConfig{Name: "sim", Model: "small-1", Tier: "fast", Seed: 1})
		got := collect(t, s, question)
		if got.err != nil || len(got.events) != 1 || got.events[0].Object != "chat.completion" || got.heads != 1 {
			t.Fatalf("answer = %+v", got)
		}
		text := got.text(0)
		for _, want := range []string{"small-1", "tier fast", "why is the sky blue?"} {
			if !strings.Contains(text, want) {
				t.Errorf("answer %q does not quote %q", text, want)
			}
		}
		u := got.events[0].Usage
		if u == nil || u.Prompt != 20 || u.Completion != got.usage.OutputTokens || u.Total != u.Prompt+u.Completion || got.usage.InputTokens != 20 {
			t.Errorf("usage = %+v, reported %+v, want 20 prompt tokens in both and a sum", u, got.usage)
		}
		if got.bytes != int64(len(text)) || got.usage.OutputTokens > got.bytes {
			t.Errorf("%d output bytes for %d bytes of text and %d tokens", got.bytes, len(text), got.usage.OutputTokens)
		}
		if want := time.Duration(got.usage.OutputTokens) * time.Second / 80; got.took < want || got.took > want+2*time.Second {
			t.Errorf("took %v for %d tokens at 80 a second", got.took, got.usage.OutputTokens)
		}
		if f := got.finishes(); !slices.Equal(f, []string{"stop"}) {
			t.Errorf("finish_reason = %v, want stop", f)
		}
	})
}

func TestSimulatedStreamSaysTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := collect(t, NewSimulated(SimulatedConfig{Seed: 1}), question)
		stream := collect(t, NewSimulated(SimulatedConfig{Seed: 1}), with(func(r *translate.Request) { r.Stream = true }))
		if stream.err != nil || stream.text(0) != whole.text(0) {
			t.Errorf("stream says %q, %v, whole %q", stream.text(0), stream.err, whole.text(0))
		}
		if got, want := len(stream.events), int(whole.usage.OutputTokens)+2; got != want {
			t.Errorf("%d events, want %d: a role, the tokens, a finish", got, want)
		}
		if stream.heads != 1 || stream.events[0].Choices[0].Delta.Role != "assistant" || *stream.usage != *whole.usage || stream.bytes != whole.bytes {
			t.Errorf("heads %d, first %+v, usage %+v, bytes %d", stream.heads, stream.events[0], stream.usage, stream.bytes)
		}
		if f := stream.finishes(); !slices.Equal(f, []string{"stop"}) {
			t.Errorf("finish_reasons = %v, want one stop", f)
		}
		if stream.ttft >= stream.took || stream.ttft == 0 {
			t.Errorf("first chunk after %v of %v", stream.ttft, stream.took)
		}
	})
}

func TestSimulatedUsageChunkOnlyWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSimulated(SimulatedConfig{})
		got := collect(t, s, with(func(r *translate.Request) { r.Stream, r.IncludeUsage = true, true }))
		last := got.events[len(got.events)-1]
		if last.Usage == nil || len(last.Choices) != 0 || last.Usage.Completion != got.usage.OutputTokens {
			t.Errorf("last event = %+v, want the usage and no choices", last)
		}
	})
}

func TestSimulatedHonoursLimitAndChoices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, stream := range []bool{false, true} {
			got := collect(t, NewSimulated(SimulatedConfig{}), with(func(r *translate.Request) { r.Stream, r.MaxTokens, r.N = stream, 7, 3 }))
			if got.usage.OutputTokens != 21 {
				t.Errorf("stream %v: %d output tokens, want 3 choices of 7", stream, got.usage.OutputTokens)
			}
			if f := got.finishes(); !slices.Equal(f, []string{"length", "length", "length"}) {
				t.Errorf("stream %v: finish_reasons = %v", stream, f)
			}
			if got.text(2) == "" {
				t.Errorf("stream %v: the third choice is empty", stream)
			}
		}
	})
}

func TestSimulatedJSONMode(t *testing.T) {
	schema := asking("a \"quoted\"\nthing")
	schema.Schema = true
	synctest.Test(t, func(t *testing.T) {
		got := collect(t, NewSimulated(SimulatedConfig{Tier: "fast"}), schema)
		var object struct{ Tier string }
		if err := json.Unmarshal([]byte(got.text(0)), &object); err != nil || object.Tier != "fast" {
			t.Errorf("content = %q: %v", got.text(0), err)
		}
	})
}

func TestSimulatedIsDeterministic(t *testing.T) {
	play := func(seed uint64) (story []string) {
		synctest.Test(t, func(t *testing.T) {
			s := NewSimulated(SimulatedConfig{Name: "a", Seed: seed, FaultRate: 0.5})
			for range 20 {
				got := collect(t, s, question)
				id := ""
				if got.err == nil {
					id = got.events[0].ID
				}
				story = append(story, id+got.took.String())
			}
		})
		return story
	}
	first := play(7)
	if second := play(7); !slices.Equal(first, second) {
		t.Errorf("one seed told two stories:\n%v\n%v", first, second)
	}
	if other := play(8); slices.Equal(first, other) {
		t.Error("two seeds told the same story")
	}
}

func TestSimulatedFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSimulated(SimulatedConfig{Seed: 3, FaultRate: 0.2, Stall: time.Minute})
		const calls = 2000
		var limited, overloaded, stalled int
		for range calls {
			got := collect(t, s, question)
			var failed *translate.UpstreamError
			switch {
			case errors.As(got.err, &failed) && failed.Status == 429:
				limited++
				if failed.Kind != translate.KindRateLimited || failed.RetryAfter <= 0 || failed.Billed != translate.BilledNothing {
					t.Fatalf("429 = %+v", failed)
				}
			case errors.As(got.err, &failed) && failed.Status == 503:
				overloaded++
			case got.err != nil:
				t.Fatal(got.err)
			case got.took > time.Minute:
				stalled++
			}
		}
		// A fifth of 2000 calls is 400, in parts of 4, 4 and 2.
		if limited < 120 || limited > 200 || overloaded < 120 || overloaded > 200 || stalled < 50 || stalled > 110 {
			t.Errorf("of %d calls %d were limited, %d overloaded, %d stalled", calls, limited, overloaded, stalled)
		}
	})
}

func TestSimulatedLatencyIsDistributed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSimulated(SimulatedConfig{Seed: 3, TTFT: 100 * time.Millisecond})
		var times []time.Duration
		for range 1001 {
			times = append(times, collect(t, s, with(func(r *translate.Request) { r.Stream, r.MaxTokens = true, 1 })).ttft)
		}
		slices.Sort(times)
		median, p90 := times[500], times[900]
		if median < 95*time.Millisecond || median > 105*time.Millisecond || p90 < 140*time.Millisecond || p90 > 175*time.Millisecond {
			t.Errorf("median %v, p90 %v, want about 100 ms and 157 ms", median, p90)
		}
	})
}

func TestSimulatedEndsWithItsContext(t *testing.T) {
	why := errors.New("client left")
	for _, tt := range []struct {
		name   string
		stream bool
		fault  float64
		after  time.Duration
	}{
		{"before the first token", true, 0, time.Millisecond},
		{"between tokens", true, 0, 3 * time.Second},
		{"during a whole answer", false, 0, time.Second},
		{"before a refusal", false, 1, time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := NewSimulated(SimulatedConfig{TTFT: 2 * time.Second, TokensPerSecond: 1, FaultRate: tt.fault})
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(tt.after, func() { cancel(why) })
				start := time.Now()
				var last error
				for _, err := range s.Chat(ctx, with(func(r *translate.Request) { r.Stream = tt.stream })) {
					last = err
				}
				if !errors.Is(last, why) || time.Since(start) != tt.after {
					t.Errorf("ended with %v after %v, want the cause after %v", last, time.Since(start), tt.after)
				}
			})
		})
	}
}

func TestSimulatedSendsNothingUntilRangedOver(t *testing.T) {
	s := NewSimulated(SimulatedConfig{})
	_ = s.Chat(t.Context(), question)
	if n := s.calls.Load(); n != 0 {
		t.Errorf("%d calls were made before the answer was read", n)
	}
}

func TestSimulatedMayBeLeftEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSimulated(SimulatedConfig{})
		n := 0
		for range s.Chat(t.Context(), with(func(r *translate.Request) { r.Stream, r.IncludeUsage = true, true })) {
			if n++; n == 3 {
				break // a second yield after this would panic
			}
		}
		if n != 3 {
			t.Errorf("%d chunks", n)
		}
	})
}

func TestSimulatedEmbeddings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSimulated(SimulatedConfig{Model: "embed-1", TTFT: time.Second})
		r, err := translate.ParseEmbedding([]byte(`{"model":"x","input":["a red fox runs","the red fox ran","quarterly tax report","!?"],"dimensions":64}`))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		got, err := s.Embed(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 250*time.Millisecond {
			t.Errorf("answered after %v", took)
		}
		var answer struct {
			Model string
			Data  []struct{ Embedding []float64 }
			Usage struct {
				Prompt int64 `json:"prompt_tokens"`
			}
		}
		if err := json.Unmarshal(got.Body, &answer); err != nil || len(answer.Data) != 4 || answer.Model != "embed-1" {
			t.Fatalf("answer %s: %v", got.Body, err)
		}
		dot := func(i, j int) (sum float64) {
			for k, x := range answer.Data[i].Embedding {
				sum += x * answer.Data[j].Embedding[k]
			}
			return sum
		}
		if len(answer.Data[0].Embedding) != 64 || dot(0, 0) < 0.999 || dot(0, 0) > 1.001 || dot(3, 3) < 0.999 {
			t.Errorf("%d dimensions, length %v and %v, want 64 and 1", len(answer.Data[0].Embedding), dot(0, 0), dot(3, 3))
		}
		if near, far := dot(0, 1), dot(0, 2); near < far+0.2 {
			t.Errorf("likeness of related texts %v, of others %v", near, far)
		}
		if answer.Usage.Prompt == 0 || got.Usage == nil || got.Usage.InputTokens != answer.Usage.Prompt {
			t.Errorf("usage %+v, reported %+v", answer.Usage, got.Usage)
		}
	})
}

func TestSimulatedEmbeddingsRefuseTokenIDs(t *testing.T) {
	r, err := translate.ParseEmbedding([]byte(`{"model":"x","input":[1,2,3]}`))
	if err != nil {
		t.Fatal(err)
	}
	var invalid *translate.InvalidError
	if _, err := NewSimulated(SimulatedConfig{}).Embed(t.Context(), r); !errors.As(err, &invalid) || invalid.Param != "input" {
		t.Errorf("error = %v, want an InvalidError of input", err)
	}
}

func FuzzTokenize(f *testing.F) {
	f.Add("a few words")
	f.Add("")
	f.Add("Überlängenwörterzerlegung  \x80")
	f.Fuzz(func(t *testing.T, text string) {
		tokens := tokenize(text)
		if got := strings.Join(tokens, ""); got != text {
			t.Errorf("tokens of %q join to %q", text, got)
		}
		if text != "" && slices.Contains(tokens, "") {
			t.Errorf("%q has an empty token", text)
		}
	})
}
