package proxy

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/translate"
)

// Query asks for a text: the request of POST /query and of Complete and Stream.
type Query struct {
	Prompt string `json:"prompt"`
	// Messages are the history, as in chat completions; the prompt is the
	// newest user turn after them.
	Messages     []json.RawMessage `json:"messages,omitempty"`
	MaxTokens    int64             `json:"max_tokens,omitempty"` // 0 means the model's own limit
	Temperature  *float64          `json:"temperature,omitempty"`
	SystemPrompt string            `json:"system_prompt,omitempty"`
	Tier         string            `json:"tier,omitempty"` // forces a tier
	Metadata     QueryMetadata     `json:"metadata,omitzero"`
}

// QueryMetadata says who asks and what they may spend a day.
type QueryMetadata struct {
	UserID    string  `json:"user_id,omitempty"`
	BudgetUSD Dollars `json:"budget_usd,omitempty"`
}

// Dollars is an amount of US dollars as a client writes it: digits, in a JSON
// number or a string. What it means is judged where it is used.
type Dollars string

// UnmarshalJSON implements json.Unmarshaler.
func (d *Dollars) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case 'n': // null is as good as nothing
		return nil
	case '"', 't', 'f', '[', '{':
		return json.Unmarshal(b, (*string)(d))
	}
	*d = Dollars(b)
	return nil
}

// Answer is a Query's answer.
type Answer struct {
	Text         string  `json:"text"`
	ModelUsed    string  `json:"model_used"`
	TierUsed     string  `json:"tier_used"`
	TokensTotal  int64   `json:"tokens_total"`
	CostUSD      USD     `json:"cost_usd"`
	LatencyMS    float64 `json:"latency_ms"`
	StrategyUsed string  `json:"strategy_used"`
	WasFallback  bool    `json:"was_fallback"`
}

// Complete answers a query: routed, budgeted and recorded like any request.
// The error is what a client would be told, with its status in StatusOf.
func (s *Server) Complete(ctx context.Context, q Query) (*Answer, error) {
	j := s.depart("Complete", budget.NewID())
	out := &collector{}
	err := s.ask(ctx, j, account{bodyNames: true}, q, false, out)
	s.publish(j.now, j.arrive(err))
	if err != nil {
		return nil, err
	}
	return out.answer(j), nil
}

// Stream answers a query piece by piece. The error comes last, and at most
// once; leaving the loop ends the upstream call.
func (s *Server) Stream(ctx context.Context, q Query) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		j := s.depart("Stream", budget.NewID())
		out := &yielder{yield: yield}
		err := s.ask(ctx, j, account{bodyNames: true}, q, true, out)
		s.publish(j.now, j.arrive(err))
		if err != nil && !out.left {
			yield("", err)
		}
	}
}

// StatusOf is the HTTP status, OpenAI error type and code that stand for an
// error of Complete or Stream.
func StatusOf(err error) (status int, kind, code string) {
	d := describe(err)
	return d.Status, d.Type, d.Code
}

// ask puts a query on its way as the chat completion it stands for.
func (s *Server) ask(ctx context.Context, j *journey, a account, q Query, stream bool, out sink) error {
	body, err := q.chat(stream)
	if err != nil {
		return err
	}
	request, err := translate.ParseRequest(body)
	if err != nil {
		return err
	}
	request.MetadataUser, request.MetadataBudget = q.Metadata.UserID, string(q.Metadata.BudgetUSD)
	if a.tier == "" {
		a.tier = q.Tier
	}
	if err := a.name(request, j.now.Identity.RejectAnonymous); err != nil {
		return err
	}
	return s.answer(ctx, j, a, request, out)
}

// chat writes the query as a chat-completions request.
func (q Query) chat(stream bool) ([]byte, error) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	messages := make([]any, 0, len(q.Messages)+2)
	if q.SystemPrompt != "" {
		messages = append(messages, message{"system", q.SystemPrompt})
	}
	for _, m := range q.Messages {
		messages = append(messages, m)
	}
	switch {
	case q.Prompt != "":
		messages = append(messages, message{"user", q.Prompt})
	case len(q.Messages) == 0:
		return nil, invalid("prompt", "prompt is missing: send {\"prompt\": \"...\"}")
	}
	if q.MaxTokens < 0 {
		return nil, invalid("max_tokens", "max_tokens must be at least 1")
	}
	fields := map[string]any{"model": "auto", "messages": messages}
	if q.MaxTokens > 0 {
		fields["max_tokens"] = q.MaxTokens
	}
	if q.Temperature != nil {
		fields["temperature"] = *q.Temperature
	}
	if stream {
		fields["stream"] = true
	}
	return json.Marshal(fields)
}

// readQuery takes the headers and the body of a query.
func (s *Server) readQuery(w http.ResponseWriter, r *http.Request, j *journey) (a account, q Query, place *stay, err error) {
	if a, err = j.now.identify(r); err != nil {
		return a, q, nil, err
	}
	body, place, err := s.read(w, r, j.now)
	if err != nil {
		return a, q, nil, err
	}
	if err := decodeJSON(body, &q); err != nil {
		place.end()
		return a, q, nil, err
	}
	return a, q, place, nil
}

// decodeJSON reads one JSON object, naming the field that has a wrong type.
func decodeJSON(body []byte, v any) error {
	if err := checkBody(body); err != nil {
		return err
	}
	err := json.Unmarshal(body, v)
	if wrong, ok := err.(*json.UnmarshalTypeError); ok {
		e := invalid(wrong.Field, "%s must be %s, not a JSON %s", cmp.Or(wrong.Field, "the body"), jsonKind(wrong.Type), wrong.Value)
		e.Code = "invalid_type"
		return e
	}
	if err != nil {
		e := invalid("", "the body is not valid JSON: %v", err)
		e.Code = "invalid_json"
		return e
	}
	return plainNames(body, "")
}

// jsonKind is what JSON calls the values of a Go type.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return "a string"
}

// plainNames refuses an object that has a name twice, or in another case than
// ours: encoding/json takes both, and the last one counts.
func plainNames(object []byte, within string) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil // null, say
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return invalid("", "the body is not valid JSON: %v", err)
		}
		name, _ := token.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return invalid("", "the body is not valid JSON: %v", err)
		}
		switch lower := strings.ToLower(name); {
		case seen[lower]:
			return invalid(within+lower, "%s stands twice", quote(within+name))
		case name != lower && slices.Contains(queryNames, lower):
			return invalid(within+lower, "%s: write it %s", quote(within+name), quote(within+lower))
		default:
			seen[lower] = true
		}
		if name == "metadata" {
			if err := plainNames(value, "metadata."); err != nil {
				return err
			}
		}
	}
	return nil
}

// queryNames are the names that mean something in a query and in its metadata.
var queryNames = []string{"prompt", "messages", "max_tokens", "temperature", "system_prompt", "tier", "metadata", "user_id", "budget_usd"}

// query serves POST /query.
func (s *Server) query(w http.ResponseWriter, r *http.Request, j *journey) error {
	a, q, stay, err := s.readQuery(w, r, j)
	if err != nil {
		return err
	}
	defer stay.end()
	out := &collector{}
	if err := s.ask(r.Context(), j, a, q, false, out); err != nil {
		return err
	}
	writeHeading(w.Header(), j)
	writeTotals(w.Header(), j)
	return writeJSON(w, out.answer(j))
}

// queryStream serves POST /query/stream.
func (s *Server) queryStream(w http.ResponseWriter, r *http.Request, j *journey) error {
	a, q, stay, err := s.readQuery(w, r, j)
	if err != nil {
		return err
	}
	defer stay.end()
	return s.ask(r.Context(), j, a, q, true, &textRelay{w: w, control: http.NewResponseController(w)})
}

func writeJSON(w http.ResponseWriter, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.Write(append(b, '\n'))
	return nil
}

// collector keeps a whole answer's text.
type collector struct {
	text   string
	tokens int64
	done   bool
}

func (o *collector) write(_ *journey, c *translate.Chunk) error {
	o.done = true
	o.text = gjson.GetBytes(c.Data, "choices.0.message.content").String()
	if c.Usage != nil {
		o.tokens = c.Usage.InputTokens + c.Usage.OutputTokens
	}
	return nil
}

func (o *collector) ping()               {}
func (o *collector) begun() bool         { return o.done }
func (o *collector) end(*journey, error) {}

func (o *collector) answer(j *journey) *Answer {
	return &Answer{
		Text: o.text, ModelUsed: j.record.answered.label, TierUsed: j.record.Tier, TokensTotal: o.tokens,
		CostUSD: USD(j.purse.spent), LatencyMS: millis(time.Since(j.start)), StrategyUsed: j.record.Strategy, WasFallback: j.record.Fallback,
	}
}

// yielder hands a stream's text to a loop.
type yielder struct {
	yield   func(string, error) bool
	started bool
	left    bool // the loop was left
}

func (o *yielder) write(_ *journey, c *translate.Chunk) error {
	text := deltaText(c)
	if text == "" {
		return nil
	}
	o.started = true
	if !o.yield(text, nil) {
		o.left = true
		return errClientGone
	}
	return nil
}

func (o *yielder) ping()               {}
func (o *yielder) begun() bool         { return o.started }
func (o *yielder) end(*journey, error) {}

func deltaText(c *translate.Chunk) string {
	if c.Comment || len(c.Data) == 0 {
		return ""
	}
	return gjson.GetBytes(c.Data, "choices.0.delta.content").String()
}

// textRelay writes an answer's text as it comes.
type textRelay struct {
	w       http.ResponseWriter
	control *http.ResponseController
	started bool
}

func (o *textRelay) write(j *journey, c *translate.Chunk) error {
	text := deltaText(c)
	if text == "" {
		return nil
	}
	o.start(j)
	o.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := o.w.Write([]byte(text)); err != nil {
		return err
	}
	if c.More {
		return nil
	}
	return o.control.Flush()
}

func (o *textRelay) start(j *journey) {
	if o.started {
		return
	}
	o.started = true
	h := o.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Trailer", strings.Join([]string{headerCost, headerLatency, headerOverhead}, ", "))
	writeHeading(h, j)
	o.w.WriteHeader(http.StatusOK)
}

func (o *textRelay) ping()       {}
func (o *textRelay) begun() bool { return o.started }

func (o *textRelay) end(j *journey, err error) {
	o.start(j)
	if err != nil {
		d := describe(err)
		fmt.Fprintf(o.w, "\n[error: %s]\n", d.Message)
	}
	writeTotals(o.w.Header(), j)
	o.control.SetWriteDeadline(time.Time{})
}
