// Package translate speaks the dialects: OpenAI's chat completions, which is
// the model everything else is told in, AWS Bedrock's Converse and
// Anthropic's Messages. It is pure: bytes in, bytes out. It knows nothing of
// the network, of clocks, of money or of tiers.
package translate

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/inference-router/inference-router/internal/measure"
	"github.com/inference-router/inference-router/internal/rawjson"
)

// Request is one chat-completions request: the client's JSON as it came, and
// the few facts we route and bill by. It is never changed once made; For makes
// the variant that one attempt sends. Safe for concurrent use.
type Request struct {
	// Body is the JSON object, as the client sent it or as For spliced it.
	Body []byte

	// Dialect is what Body is written in; chat when it is "".
	Dialect Dialect
	// Dropped are the request fields that a translation to chat could not
	// keep.
	Dropped []string

	Model        string // as sent; "" when absent
	Stream       bool
	IncludeUsage bool // stream_options.include_usage is true
	IncludeCost  bool // usage.include is true: the client wants usage.cost

	// MaxTokens is the client's output limit in tokens, from
	// max_completion_tokens, else max_tokens; 0 when neither is set.
	MaxTokens int64
	N         int64 // number of choices asked for, at least 1

	// InputBytes bounds the prompt from above in tokens: a token covers at
	// least one byte of text. Inline media are not counted here.
	InputBytes int64
	Messages   int // number of messages
	Images     int // image parts
	Audio      int // audio parts
	Files      int // file and video parts
	// Media are the images, files and sounds, measured: what a model counts
	// for them comes on top of InputBytes.
	Media  []measure.Item
	Tools  bool
	Schema bool // response_format is json_schema or json_object

	// Who the body says is asking; believed or not by the identity mode.
	User             string // user
	SafetyIdentifier string // safety_identifier
	MetadataUser     string // metadata.user_id
	MetadataBudget   string // metadata.budget_usd, a number's or a string's text

	// ClientKey is the caller's own credential, for upstreams to which it is
	// passed on. The proxy sets it; it is never part of Body.
	ClientKey Secret
	// Forward are the caller's headers that go on to a pass-through upstream,
	// by canonical name: traceparent, say. The proxy fills it from its
	// allow-list.
	Forward map[string]string
	// AnswerModel is what a translated answer calls its model; "" leaves that
	// to the upstream. The proxy sets it to the client's own string when that
	// named the upstream.
	AnswerModel string

	members members       // where the top-level members stand in Body
	spliced bool          // Body is For's own, see Written
	names   *dialectNames // what an answer in the client's dialect needs; nil in others
	prompt  string        // see Prompt; shares the memory of the client's body
}

// What a token count must allow for beside the body's own bytes, which count
// in full: the frame that a model's template puts around a message, and the
// preamble that some providers write when there are tools.
const (
	messageOverhead = 16
	toolsOverhead   = 512
)

// ParseRequest reads a chat-completions request. It checks what routing,
// billing and splicing rely on; what an upstream judges better passes. The
// error is an *InvalidError. The Request keeps body, which must not be changed
// afterwards.
func ParseRequest(body []byte) (*Request, error) {
	p := requestParser{
		Scanner: rawjson.Scanner{Data: body, MaxDepth: maxRequestDepth},
		r:       &Request{Body: body, N: 1, members: make(members, 0, 12)},
	}
	var room [2][4]rawjson.Quoted // most turns have a text or two
	p.texts, p.newest = room[0][:0], room[1][:0]
	p.request()
	if p.Err != nil {
		return nil, requestError(p.Err)
	}
	return p.r, nil
}

// requestError makes an *InvalidError of what a requestParser met.
func requestError(err error) error {
	var syntax *rawjson.SyntaxError
	if !errors.As(err, &syntax) {
		return err
	}
	return &InvalidError{Message: "The request body is not valid JSON: " + syntax.Error() + ".", Code: "invalid_json"}
}

// Raw is the JSON of the top-level member of that name, nil when there is
// none.
func (r *Request) Raw(name string) []byte {
	i := r.members.find(name)
	if i < 0 {
		return nil
	}
	return r.Body[r.members[i].value:r.members[i].to]
}

// requestParser fills a Request in one walk over its body.
type requestParser struct {
	rawjson.Scanner
	r     *Request
	names map[string]bool // of the members so far, once there are many

	texts  []rawjson.Quoted // text of the message at hand
	newest []rawjson.Quoted // text of the newest user turn
	parts  int
	media  int64 // bytes of inline media

	measurer measure.Measurer
}

func (p *requestParser) refuse(param, code, format string, args ...any) {
	if p.Err == nil {
		p.Err = &InvalidError{Message: fmt.Sprintf(format, args...), Param: param, Code: code}
	}
}

func (p *requestParser) request() {
	if p.Next() != '{' {
		p.Fail("expected an object")
		return
	}
	for more := p.Open('{'); more; more = p.More('}') {
		p.Next()
		start := p.Pos
		name := p.Bytes(p.Key())
		if p.Err != nil {
			return
		}
		f := fieldOf(name)
		p.claim(name, f, start)
		if p.Err != nil {
			return
		}
		p.member(f)
	}
	p.End()
	if p.Err != nil {
		return
	}
	if p.r.Messages == 0 {
		p.refuse("messages", "missing_required_parameter", "Missing required parameter: 'messages'.")
		return
	}
	p.conclude()
}

// member reads the value of the member that was claimed last.
func (p *requestParser) member(f field) {
	m := &p.r.members[len(p.r.members)-1]
	switch f {
	case fieldMessages:
		p.messages()
	case fieldTools, fieldFunctions:
		p.tools(fieldNames[f])
	default:
		p.Skip()
	}
	m.to = p.Pos
	if p.Err == nil && f != fieldOther {
		if err := p.r.setField(f, p.Data[m.value:m.to]); err != nil {
			p.Err = err
		}
	}
}

// conclude works out what only the whole request tells.
func (p *requestParser) conclude() {
	r := p.r
	if limit, ok := r.limit(fieldMaxCompletionTokens); ok {
		r.MaxTokens = limit
	} else if limit, ok := r.limit(fieldMaxTokens); ok {
		r.MaxTokens = limit
	}
	r.InputBytes = int64(len(r.Body)) - p.media + messageOverhead*int64(r.Messages)
	if r.Tools {
		r.InputBytes += toolsOverhead
	}
	r.prompt = p.join(p.newest)
}

// join puts texts together, a line each.
func (p *requestParser) join(texts []rawjson.Quoted) string {
	if len(texts) == 1 {
		// Nobody changes these bytes while the request is under way. A copy of a
		// long prompt would cost more than all the rest of the parsing.
		text := p.Bytes(texts[0])
		return unsafe.String(unsafe.SliceData(text), len(text))
	}
	var out []byte
	for i, t := range texts {
		if i > 0 {
			out = append(out, '\n')
		}
		out = append(out, p.Bytes(t)...)
	}
	return string(out)
}

func (p *requestParser) messages() {
	switch p.Next() {
	case '[':
	case 'n': // null means absent
		p.Skip()
		return
	default:
		p.wrongType("messages", "an array of messages")
		return
	}
	for more := p.Open('['); more; more = p.More(']') {
		if p.r.Messages == maxMessages {
			p.refuse("messages", "array_above_max_length", "Invalid 'messages': array too long. Expected at most %d messages.", maxMessages)
			return
		}
		if p.Next() != '{' {
			p.wrongType(fmt.Sprintf("messages[%d]", p.r.Messages), "an object")
			return
		}
		p.message()
		p.r.Messages++
	}
	if p.Err == nil && p.r.Messages == 0 {
		p.refuse("messages", "empty_array", "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.")
	}
}

// message reads one message, and keeps its text when it is the user's.
func (p *requestParser) message() {
	p.texts = p.texts[:0]
	user := false
	for more := p.Open('{'); more; more = p.More('}') {
		switch k := p.Key(); string(p.Bytes(k)) {
		case "role":
			if p.Next() == '"' {
				user = string(p.Bytes(p.Text())) == "user"
			} else {
				p.Skip()
			}
		case "content":
			p.content()
		case "audio": // the id of an answer that was spoken before, of any length
			if p.Next() == '{' {
				p.r.Audio++
				p.r.Media = append(p.r.Media, measure.Item{Kind: measure.Audio})
			}
			p.Skip()
		default:
			p.Skip()
		}
	}
	if user {
		p.texts, p.newest = p.newest, p.texts
	}
}

// content reads a message's content: a string, or an array of parts.
func (p *requestParser) content() {
	p.texts = p.texts[:0]
	switch p.Next() {
	case '"':
		p.texts = append(p.texts, p.Text())
	case '[':
		for more := p.Open('['); more; more = p.More(']') {
			if p.parts++; p.parts > maxParts {
				p.refuse("messages", "array_above_max_length", "Invalid 'messages': more than %d content parts.", maxParts)
				return
			}
			if p.Next() == '{' {
				p.part()
			} else {
				p.Skip()
			}
		}
	default:
		p.Skip()
	}
}

// part reads one content part. A part counts as media by its payload's name:
// its type might be given twice.
func (p *requestParser) part() {
	from, holds := p.Pos, false
	for more := p.Open('{'); more; more = p.More('}') {
		switch k := p.Key(); string(p.Bytes(k)) {
		case "text":
			if p.Next() == '"' {
				p.texts = append(p.texts, p.Text())
				continue
			}
		case "image_url":
			p.r.Images++
			holds = true
		case "input_audio":
			p.r.Audio++
			holds = true
		case "file", "video_url", "input_video":
			p.r.Files++
			holds = true
		}
		p.Skip()
	}
	if holds && p.Err == nil {
		p.measure(p.Data[from:p.Pos])
	}
}

// measure takes in what a part's media cost. Their base64 is not text: it is
// taken off the bytes that count as such.
func (p *requestParser) measure(part []byte) {
	for _, item := range p.measurer.Part(part) {
		p.media += item.Inline
		p.r.Media = append(p.r.Media, item)
	}
}

// tools counts the tools.
func (p *requestParser) tools(name string) {
	switch p.Next() {
	case '[':
	case 'n':
		p.Skip()
		return
	default:
		p.wrongType(name, "an array")
		return
	}
	n := 0
	for more := p.Open('['); more; more = p.More(']') {
		if n++; n > maxTools {
			p.refuse(name, "array_above_max_length", "Invalid '%s': array too long. Expected at most %d.", name, maxTools)
			return
		}
		p.Skip()
	}
	p.r.Tools = p.r.Tools || n > 0
}

// wrongType refuses the value ahead, once it is known to be JSON at all.
func (p *requestParser) wrongType(param, want string) {
	from := p.Pos
	p.Skip()
	if p.Err == nil {
		p.Err = invalidType(param, want, p.Data[from:p.Pos])
	}
}

// Prompt is the text of the newest user turn, a line for each of its text
// parts; earlier turns and system text are not in it. "" once forgotten.
func (r *Request) Prompt() string { return strings.Clone(r.prompt) }

// PromptView is Prompt without a copy: it must not be kept, for its memory is
// used again when the request has been answered.
func (r *Request) PromptView() string { return r.prompt }

// PromptCacheKey is the body's prompt_cache_key; "" when there is none or it is
// no string. It looks at Body, before Forget.
func (r *Request) PromptCacheKey() string {
	raw := r.Raw("prompt_cache_key")
	if len(raw) == 0 || raw[0] != '"' {
		return ""
	}
	s := rawjson.Scanner{Data: raw}
	return string(s.Bytes(s.Text()))
}

// CachesForAnHour reports whether the request may ask for prompt caches that
// last longer than the usual few minutes, which some providers charge more for:
// not without one of these members, however their names are written. It looks
// at Body, before Forget.
func (r *Request) CachesForAnHour() bool { return MayCacheForAnHour(r.Body) }

// MayCacheForAnHour is CachesForAnHour of JSON that is part of a request, or to
// become one.
func MayCacheForAnHour(json []byte) bool {
	for _, sign := range []string{`"ttl"`, `"prompt_cache_retention"`, `\u007`, `\u006`, `\u005f`, `\u005F`} { // t, l, _
		if bytes.Contains(json, []byte(sign)) {
			return true
		}
	}
	return false
}

// Forget lets go of the request's text, which a stream no longer needs once it
// has begun. The facts stay.
func (r *Request) Forget() {
	r.Body, r.prompt, r.members = nil, "", nil
}
