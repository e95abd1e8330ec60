package translate

import (
	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// maxAnswerDepth bounds the nesting of an upstream's JSON.
const maxAnswerDepth = 512

// answer is what one JSON object of an OpenAI-compatible answer tells.
type answer struct {
	malformed bool
	usage     *Usage
	tier      string // service_tier
	badUsage  bool   // there was a usage, and it made no sense
	failure   []byte // the error member, when it is not null
	choices   int    // number of choices; -1 without such an array
	finish    string
	output    int64 // bytes of model output

	nullFrom, nullTo int // a top-level "usage":null with one comma
}

// answerReader reads such objects, one at a time and in one walk.
type answerReader struct {
	rawjson.Scanner
	answer
}

// read walks over data. Of data that is cut short it tells what comes before
// the cut.
func (r *answerReader) read(data []byte) answer {
	r.Scanner = rawjson.Scanner{Data: data, MaxDepth: maxAnswerDepth, Lax: true}
	r.answer = answer{choices: -1}
	if r.Next() != '{' {
		r.malformed = true
		return r.answer
	}
	before := r.Pos + 1 // where the last member ended
	for more := r.Open('{'); more; more = r.More('}') {
		r.Next()
		from := r.Pos
		k := r.Key()
		value := r.Pos
		r.member(k)
		if r.Err == nil && r.Pos-value == 4 && data[value] == 'n' && string(data[k.From:k.To]) == "usage" {
			r.nullUsage(before, from)
		}
		before = r.Pos
	}
	r.End()
	r.malformed = r.Err != nil
	if r.usage != nil {
		r.usage.Tier = r.tier
	}
	if r.malformed {
		r.nullFrom, r.nullTo = 0, 0
	}
	return r.answer
}

func (r *answerReader) member(k rawjson.Quoted) {
	switch string(r.Data[k.From:k.To]) {
	case "choices":
		r.readChoices()
	case "usage":
		r.readUsage()
	case "service_tier":
		if r.Next() == '"' {
			r.tier = tierName(string(r.Bytes(r.Text())))
		} else {
			r.Skip()
		}
	case "error":
		from := r.Pos
		r.Skip()
		if r.Err == nil && r.Data[from] != 'n' {
			r.failure = r.Data[from:r.Pos]
		}
	case "x_groq":
		r.object(func(name string) {
			if name == "usage" {
				r.readUsage()
			} else {
				r.Skip()
			}
		})
	default:
		r.Skip()
	}
}

// nullUsage notes what has to be cut for a member from one place to the one
// that is reached: with the comma after it, else with the comma before.
func (r *answerReader) nullUsage(before, from int) {
	end := r.Pos
	r.nullFrom, r.nullTo = from, end
	if r.Next() == ',' {
		r.Pos++
		r.Next()
		r.nullTo = r.Pos
		r.Pos = end
	} else if r.Data[before-1] != '{' {
		r.nullFrom = before
	}
}

// object walks over the members of an object; anything else is passed over.
func (r *answerReader) object(read func(name string)) {
	if r.Next() != '{' {
		r.Skip()
		return
	}
	for more := r.Open('{'); more; more = r.More('}') {
		k := r.Key()
		read(string(r.Data[k.From:k.To]))
	}
}

func (r *answerReader) readChoices() {
	if r.Next() != '[' {
		r.Skip()
		return
	}
	r.choices = 0
	for more := r.Open('['); more; more = r.More(']') {
		r.choices++
		r.choice()
	}
}

func (r *answerReader) choice() {
	if r.Next() != '{' {
		r.Skip()
		return
	}
	for more := r.Open('{'); more; more = r.More('}') {
		k := r.Key()
		switch string(r.Data[k.From:k.To]) {
		case "delta", "message":
			r.message()
		case "finish_reason":
			if r.Next() != '"' {
				r.Skip()
				continue
			}
			q := r.Text()
			r.finish = finishName(r.Data[q.From:q.To])
		case "usage": // some providers put it here
			r.readUsage()
		default:
			r.Skip()
		}
	}
}

// message counts the output in a message or delta. Reasoning that is told
// twice, under two names, counts once.
func (r *answerReader) message() {
	if r.Next() != '{' {
		r.Skip()
		return
	}
	var reasoning int64
	for more := r.Open('{'); more; more = r.More('}') {
		k := r.Key()
		switch string(r.Data[k.From:k.To]) {
		case "content", "refusal":
			r.output += r.strings()
		case "reasoning_content", "reasoning":
			reasoning = max(reasoning, r.strings())
		case "tool_calls", "function_call", "audio":
			r.output += r.strings()
		default:
			r.Skip()
		}
	}
	r.output += reasoning
}

// strings passes over a value and adds up the strings in it, names apart.
func (r *answerReader) strings() (n int64) {
	switch r.Next() {
	case '"':
		return r.Size(r.Text())
	case '{':
		for more := r.Open('{'); more; more = r.More('}') {
			k := r.Key()
			switch string(r.Data[k.From:k.To]) {
			case "id", "type":
				r.Skip()
			default:
				n += r.strings()
			}
		}
	case '[':
		for more := r.Open('['); more; more = r.More(']') {
			n += r.strings()
		}
	default:
		r.Skip()
	}
	return n
}

// finishName saves the allocation for the usual reasons.
func finishName(raw []byte) string {
	switch string(raw) {
	case "stop":
		return "stop"
	case "length":
		return "length"
	case "tool_calls":
		return "tool_calls"
	case "content_filter":
		return "content_filter"
	}
	if len(raw) == 0 {
		return ""
	}
	return string(raw[:min(len(raw), 64)])
}

// count is a token count that may be absent (-1) or absurd (-2).
type count int64

const (
	countAbsent count = -1
	countAbsurd count = -2
)

func (c count) orZero() int64 { return max(int64(c), 0) }

// maxCount is the largest count that every JSON reader reads alike.
const maxCount = 1 << 53

// count reads a token count.
func (r *answerReader) count() count {
	r.Next()
	from := r.Pos
	r.Skip()
	if r.Err != nil {
		return countAbsurd
	}
	raw := r.Data[from:r.Pos]
	if raw[0] == 'n' {
		return countAbsent
	}
	n, ok := wholeValue(raw, maxCount)
	if !ok || n < 0 || n > maxCount {
		return countAbsurd
	}
	return count(n)
}

// readUsage reads a usage object. Counts that make no sense are as good as
// none: the caller then goes by the bytes that were delivered.
func (r *answerReader) readUsage() {
	if r.Next() != '{' {
		from := r.Pos
		r.Skip()
		if r.Err == nil && r.Data[from] != 'n' {
			r.badUsage = true
		}
		return
	}
	from := r.Pos
	c := counts{input: countAbsent, output: countAbsent, total: countAbsent}
	for more := r.Open('{'); more; more = r.More('}') {
		k := r.Key()
		switch string(r.Data[k.From:k.To]) {
		case "prompt_tokens":
			c.input = r.count()
		case "completion_tokens":
			c.output = r.count()
		case "total_tokens":
			c.total = r.count()
		case "prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens": // DeepSeek, Moonshot, others
			c.cached = max(c.cached, r.count())
		case "cache_creation_input_tokens":
			c.written = max(c.written, r.count())
		case "prompt_tokens_details":
			r.details(&c, &c.heard)
		case "completion_tokens_details":
			r.details(&c, &c.spoken)
		case "num_sources_used", "num_search_queries": // xAI, Perplexity
			c.searches = max(c.searches, r.count())
		case "server_tool_use": // OpenRouter and Anthropic; xAI has the other two
			r.members("web_search_requests", &c.searches)
		case "server_side_tool_usage_details":
			r.members("web_search_calls", &c.searches)
		case "cost":
			c.costs = true
			r.Skip()
		default:
			r.Skip()
		}
	}
	if r.Err != nil {
		return
	}
	if u := c.usage(); u != nil {
		if c.costs {
			r.cost(u, r.Data[from:r.Pos])
		}
		r.usage = u.AtLeast(r.usage)
	} else {
		r.badUsage = true
	}
}

// cost reads what a usage object says of the call's price.
func (r *answerReader) cost(u *Usage, usage []byte) {
	v := gjson.ParseBytes(usage)
	if u.Cost, u.CostKnown = reportedCost(v); !u.CostKnown && v.Get("cost").Type != gjson.Null {
		r.badUsage = true
	}
}

// members takes the greatest of an object's members of that name.
func (r *answerReader) members(name string, to *count) {
	r.object(func(found string) {
		if found == name {
			*to = max(*to, r.count())
		} else {
			r.Skip()
		}
	})
}

// details reads the parts of a direction's tokens, whose sound is counted in
// audio.
func (r *answerReader) details(c *counts, audio *count) {
	if r.Next() != '{' {
		r.Skip()
		return
	}
	for more := r.Open('{'); more; more = r.More('}') {
		k := r.Key()
		switch string(r.Data[k.From:k.To]) {
		case "cached_tokens":
			c.cached = max(c.cached, r.count())
		case "cache_write_tokens", "cache_creation_tokens":
			c.written = max(c.written, r.count())
		case "reasoning_tokens":
			c.reasoning = max(c.reasoning, r.count())
		case "audio_tokens":
			*audio = max(*audio, r.count())
		case "cached_tokens_details": // OpenAI's realtime models
			r.members("audio_tokens", &c.cachedAudio)
		default:
			r.Skip()
		}
	}
}

// counts are the numbers of a usage object.
type counts struct {
	input, output, total       count
	cached, written, reasoning count

	heard, spoken, cachedAudio, searches count

	costs bool // it tells what the call cost
}

// usage makes sense of the counts, or returns nil.
func (c counts) usage() *Usage {
	if c.input < 0 || c.output == countAbsurd || c.output == countAbsent && c.total < 0 {
		return nil
	}
	u := &Usage{
		InputTokens: int64(c.input), OutputTokens: c.output.orZero(),
		CachedTokens: c.cached.orZero(), CacheWriteTokens: c.written.orZero(), ReasoningTokens: c.reasoning.orZero(),
	}
	// Gemini and xAI leave reasoning out of completion_tokens; only the total
	// tells.
	u.OutputTokens = max(u.OutputTokens, c.total.orZero()-u.InputTokens, u.ReasoningTokens)
	u.CachedTokens = min(u.CachedTokens, u.InputTokens)
	u.CacheWriteTokens = min(u.CacheWriteTokens, u.InputTokens-u.CachedTokens)
	u.AudioInputTokens = min(c.heard.orZero(), u.InputTokens)
	u.AudioOutputTokens = min(c.spoken.orZero(), u.OutputTokens)
	u.CachedAudioTokens = min(c.cachedAudio.orZero(), u.CachedTokens, u.AudioInputTokens)
	u.Searches = c.searches.orZero()
	return u
}
