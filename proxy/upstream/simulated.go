package upstream

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/internal/rawjson"
	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/translate"
)

// SimulatedConfig describes a model that does not exist.
type SimulatedConfig struct {
	Name  string // the upstream's name; it makes two of one seed differ
	Model string // as it stands in answers
	Tier  string // quoted in answers
	Seed  uint64 // what is drawn follows from it and from the order of the calls
	// TTFT is the median time to the first token; 0 means 250 ms. It is
	// distributed log-normally, as real ones are.
	TTFT time.Duration
	// TokensPerSecond is the speed after it; 0 means 80.
	TokensPerSecond float64
	// FaultRate is the share of calls, 0 to 1, that go wrong: four in ten of
	// them are rate limited (429), four overloaded (503), two stall for Stall
	// before they answer.
	FaultRate float64
	Stall     time.Duration // 0 means 10 s
}

// Simulated answers chat completions out of nothing, with the latency, token
// counts and faults of a real model. Safe for concurrent use.
type Simulated struct {
	c       SimulatedConfig
	calls   atomic.Uint64
	control atomic.Pointer[string] // nil: the usual behaviour
}

// NewSimulated makes a simulated upstream.
func NewSimulated(c SimulatedConfig) *Simulated {
	if c.TTFT <= 0 {
		c.TTFT = 250 * time.Millisecond
	}
	if c.TokensPerSecond <= 0 {
		c.TokensPerSecond = 80
	}
	if c.Stall <= 0 {
		c.Stall = 10 * time.Second
	}
	return &Simulated{c: c}
}

// ttftSpread is the standard deviation of the logarithm of the time to the
// first token: a p90 about 1.6 times the median.
const ttftSpread = 0.35

// bytesPerToken is what an English token is taken to be.
const bytesPerToken = 4

// Chat answers r with a text about r. It ends at once when ctx does.
func (s *Simulated) Chat(ctx context.Context, r *translate.Request) translate.Chunks {
	return func(yield func(translate.Chunk, error) bool) {
		call := s.calls.Add(1)
		random := rand.New(rand.NewPCG(s.c.Seed^hash(s.c.Name), call))
		a := s.answer(r, fmt.Sprintf("chatcmpl-sim-%016x%08x", random.Uint64(), call))
		wait := s.firstToken(random)
		if err := s.controlled(ctx, &wait); err != nil {
			yield(translate.Chunk{}, err)
			return
		}
		if err := s.fault(ctx, random, &wait); err != nil {
			yield(translate.Chunk{}, err)
			return
		}
		if r.Stream {
			s.stream(ctx, a, wait, yield)
			return
		}
		if err := pause(ctx, wait+s.perToken()*time.Duration(a.longest())); err != nil {
			yield(translate.Chunk{}, err)
			return
		}
		a.created = time.Now().Unix()
		yield(a.whole(), nil)
	}
}

// firstToken draws the time to the first token.
func (s *Simulated) firstToken(random *rand.Rand) time.Duration {
	factor := math.Exp(ttftSpread * random.NormFloat64())
	return time.Duration(float64(s.c.TTFT) * min(max(factor, 0.25), 6))
}

func (s *Simulated) perToken() time.Duration {
	return time.Duration(float64(time.Second) / s.c.TokensPerSecond)
}

// fault draws whether the call goes wrong. A refusal comes fast; a stall only
// makes the first token later.
func (s *Simulated) fault(ctx context.Context, random *rand.Rand, wait *time.Duration) error {
	goesWrong, kind := random.Float64() < s.c.FaultRate, random.IntN(10)
	if !goesWrong {
		return nil
	}
	if kind >= 8 {
		*wait += s.c.Stall
		return nil
	}
	if err := pause(ctx, 20*time.Millisecond); err != nil {
		return err
	}
	if kind < 4 {
		return simulatedFailure(translate.KindRateLimited, 429, "too many requests", time.Second)
	}
	return simulatedFailure(translate.KindOverloaded, 503, "the model is overloaded", 0)
}

// simulatedFailure says the same to the client and in the record.
func simulatedFailure(kind translate.Kind, status int, words string, retryAfter time.Duration) error {
	words = "simulated: " + words
	return &translate.UpstreamError{Kind: kind, Status: status, Message: words, Words: words, RetryAfter: retryAfter}
}

// How a simulated upstream can be made to behave.
const (
	ControlSlow  = "slow"  // the first token takes ten times as long
	ControlLimit = "limit" // every call is rate limited
	ControlBreak = "break" // every call fails
	ControlMend  = "mend"  // as usual
)

// Control is the behaviour that was last set, "" for the usual one.
func (s *Simulated) Control() string {
	if c := s.control.Load(); c != nil {
		return *c
	}
	return ""
}

// SetControl changes the behaviour of the calls to come.
func (s *Simulated) SetControl(control string) error {
	switch control {
	case ControlSlow, ControlLimit, ControlBreak:
		s.control.Store(&control)
	case ControlMend:
		s.control.Store(nil)
	default:
		return fmt.Errorf("%q is none of slow, limit, break, mend", control)
	}
	return nil
}

// controlled behaves as was set. A refusal comes fast.
func (s *Simulated) controlled(ctx context.Context, wait *time.Duration) error {
	control := s.Control()
	if control == ControlSlow {
		*wait *= 10
	}
	if control == "" || control == ControlSlow {
		return nil
	}
	if err := pause(ctx, 20*time.Millisecond); err != nil {
		return err
	}
	if control == ControlLimit {
		return simulatedFailure(translate.KindRateLimited, 429, "rate limited from the dashboard", 2*time.Second)
	}
	return simulatedFailure(translate.KindServer, 500, "broken from the dashboard", 0)
}

// pause waits, and returns the cause when ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// stream sends the answer token by token, all choices side by side.
func (s *Simulated) stream(ctx context.Context, a *simulation, wait time.Duration, yield func(translate.Chunk, error) bool) {
	for i := range a.longest() + 1 {
		if err := pause(ctx, wait); err != nil {
			yield(translate.Chunk{}, err)
			return
		}
		wait = s.perToken()
		if i == 0 {
			a.created = time.Now().Unix()
		}
		for choice, tokens := range a.choices {
			if i == 0 && !yield(a.role(choice), nil) {
				return
			}
			if i < len(tokens) && !yield(a.delta(choice, tokens[i]), nil) {
				return
			}
			if i == len(tokens) && !yield(a.finish(choice), nil) {
				return
			}
		}
	}
	yield(a.usageChunk(), nil)
}

// simulation is one call's answer, before it is sent.
type simulation struct {
	id       string
	model    string
	created  int64
	choices  [][]string     // tokens, by choice
	cut      bool           // by the client's output limit
	call     *simulatedCall // nil: the tokens are text
	usage    translate.Usage
	askUsage bool
}

func (s *Simulated) answer(r *translate.Request, id string) *simulation {
	a := &simulation{id: id, model: s.c.Model, askUsage: r.IncludeUsage || r.IncludeCost}
	a.usage.InputTokens = max(1, r.InputBytes/bytesPerToken)
	a.call = callFor(r, id)
	// The same question gets the same text, as at temperature 0.
	random := rand.New(rand.NewPCG(s.c.Seed, hash(r.Prompt())))
	for range max(1, r.N) {
		text := s.text(r, random)
		if a.call != nil {
			text = a.call.arguments
		}
		tokens := tokenize(text)
		if r.MaxTokens > 0 && int64(len(tokens)) > r.MaxTokens {
			tokens, a.cut = tokens[:r.MaxTokens], true
		}
		a.choices = append(a.choices, tokens)
		a.usage.OutputTokens += int64(len(tokens))
	}
	return a
}

// longest is the number of tokens of the longest choice.
func (a *simulation) longest() int {
	n := 0
	for _, tokens := range a.choices {
		n = max(n, len(tokens))
	}
	return n
}

// remarks fill an answer up to a plausible length.
var remarks = []string{
	"No model was called to write this, and nobody is charged for it.",
	"The latency, the token counts and the odd failure are drawn at random from what real models show.",
	"A harder question is answered by a more capable tier; try one that compares two things and explains the tradeoffs.",
	"The response headers name the tier, the model, the reason for the choice and the cost.",
	"When an upstream fails before its first token, the next one answers instead.",
	"Budgets are reserved before a call and settled after it, so that no burst of requests can overrun them.",
	"The dashboard shows this request a moment after it ended.",
}

// text is what the model says.
func (s *Simulated) text(r *translate.Request, random *rand.Rand) string {
	question := strings.Join(strings.Fields(r.Prompt()), " ")
	if short := []rune(question); len(short) > 200 {
		question = string(short[:200]) + "..."
	}
	var b strings.Builder
	fmt.Fprintf(&b, "This is %s of tier %s. You asked: %q.", s.c.Model, s.c.Tier, question)
	order := random.Perm(len(remarks))
	for _, i := range order[:2+random.IntN(len(remarks)-2)] {
		b.WriteString(" " + remarks[i])
	}
	if !r.Schema {
		return b.String()
	}
	if schema := gjson.GetBytes(r.Raw("response_format"), "json_schema.schema"); schema.IsObject() {
		return sample(schema, schema, 0)
	}
	return `{"tier":` + string(quote(s.c.Tier)) + `,"model":` + string(quote(s.c.Model)) + `,"answer":` + string(quote(b.String())) + `}`
}

// tokenize cuts a text into pieces of about a token each: a word with the
// space before it, in parts when it is long.
func tokenize(text string) []string {
	const longest = 2 * bytesPerToken
	var tokens []string
	start, length := 0, 0
	for i, c := range text {
		if length > 0 && (c == ' ' || length >= longest) {
			tokens = append(tokens, text[start:i])
			start, length = i, 0
		}
		length++
	}
	return append(tokens, text[start:])
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	return h.Sum64()
}

// quote is a JSON string.
func quote(s string) []byte { return rawjson.AppendString(nil, s) }

func (a *simulation) finishReason() string {
	if a.cut {
		return "length"
	}
	if a.call != nil {
		return "tool_calls"
	}
	return "stop"
}

func (a *simulation) head() *translate.Head {
	return &translate.Head{RequestID: a.id, Created: a.created}
}

// start begins a JSON object of the answer.
func (a *simulation) start(object string) []byte {
	return fmt.Appendf(nil, `{"id":"%s","object":"%s","created":%d,"model":%s,`, a.id, object, a.created, quote(a.model))
}

func (a *simulation) chunk(choice int, delta []byte, finish string) []byte {
	data := fmt.Appendf(a.start("chat.completion.chunk"), `"choices":[{"index":%d,"delta":{%s},"logprobs":null,"finish_reason":`, choice, delta)
	if finish == "" {
		return append(data, `null}]}`...)
	}
	return fmt.Appendf(data, `"%s"}]}`, finish)
}

func (a *simulation) role(choice int) translate.Chunk {
	delta := []byte(`"role":"assistant","content":""`)
	if a.call != nil {
		delta = append([]byte(`"role":"assistant","content":null,"tool_calls":[{"index":0,`), a.call.member("")...)
		delta = append(delta, "}]"...)
	}
	c := translate.Chunk{Data: a.chunk(choice, delta, "")}
	if choice == 0 {
		c.Head = a.head()
	}
	return c
}

func (a *simulation) delta(choice int, token string) translate.Chunk {
	delta := append([]byte(`"content":`), quote(token)...)
	if a.call != nil {
		delta = a.call.part(token)
	}
	return translate.Chunk{Data: a.chunk(choice, delta, ""), OutputBytes: int64(len(token))}
}

func (a *simulation) finish(choice int) translate.Chunk {
	return translate.Chunk{Data: a.chunk(choice, nil, a.finishReason()), Finish: a.finishReason()}
}

// usageChunk carries the usage: for the client as well when it asked.
func (a *simulation) usageChunk() translate.Chunk {
	c := translate.Chunk{Usage: &a.usage}
	if a.askUsage {
		c.Data = append(a.start("chat.completion.chunk"), `"choices":[],"usage":`...)
		c.Data = append(append(c.Data, a.usageJSON()...), '}')
	}
	return c
}

func (a *simulation) usageJSON() []byte {
	return fmt.Appendf(nil, `{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,`+
		`"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}`,
		a.usage.InputTokens, a.usage.OutputTokens, a.usage.InputTokens+a.usage.OutputTokens)
}

// whole is the answer as one chat.completion.
func (a *simulation) whole() translate.Chunk {
	data := append(a.start("chat.completion"), `"choices":[`...)
	var written int64
	for i, tokens := range a.choices {
		if i > 0 {
			data = append(data, ',')
		}
		text := strings.Join(tokens, "")
		written += int64(len(text))
		content, calls := quote(text), []byte(nil)
		if a.call != nil {
			content = []byte("null")
			calls = append(append([]byte(`,"tool_calls":[{`), a.call.member(text)...), "}]"...)
		}
		data = fmt.Appendf(data, `{"index":%d,"message":{"role":"assistant","content":%s,"refusal":null%s},"logprobs":null,"finish_reason":"%s"}`,
			i, content, calls, a.finishReason())
	}
	data = append(append(append(data, `],"usage":`...), a.usageJSON()...), '}')
	return translate.Chunk{Data: data, Whole: true, OutputBytes: written, Usage: &a.usage, Finish: a.finishReason(), Head: a.head()}
}
