package translate

import (
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// Edit is what one attempt changes in the client's JSON. The zero value
// changes nothing.
type Edit struct {
	Model string // replaces model; "" keeps it
	// MaxTokens, when above 0, sets the output limit: in the client's own
	// field when it named one, else in LimitField.
	MaxTokens int64
	// LimitField is the field in which the upstream reads an output limit:
	// max_tokens, which is the default, or max_completion_tokens. A limit that
	// the client named in the other one stands in both, unless the upstream
	// reads either (LimitEither) or refuses the other (LimitAlone).
	LimitField              string
	LimitEither, LimitAlone bool
	// AskUsage sets stream_options.include_usage on a stream.
	AskUsage bool
	// NoStreamOptions takes stream_options out, for upstreams that refuse it.
	NoStreamOptions bool
	// KeepUsageField leaves the "usage" request field in (OpenRouter reads it).
	KeepUsageField bool
	// Set replaces request fields, Default fills in absent ones: top-level
	// names with their JSON values.
	Set, Default map[string]string
	// Drop are request fields that the upstream never gets.
	Drop []string
}

// change is one member's new value; an empty one takes the member out.
type change struct{ name, value string }

// For makes the variant that one attempt sends: the same request with only the
// members that e names changed, and every other byte as the client sent it.
// IncludeUsage and IncludeCost go on saying what the client asked for.
func (r *Request) For(e Edit) *Request {
	c := changes{r: r}
	c.list = c.first[:0]
	c.edit(e)
	if len(c.list) == 0 {
		return r
	}
	v := *r
	v.splice(r, c.list)
	for _, change := range c.list {
		v.update(change)
	}
	return &v
}

// changes gathers what is to change in a request. Of two changes to one member
// the first counts: those that routing and billing rely on come first.
type changes struct {
	r     *Request
	list  []change
	first [6]change
}

func (c *changes) add(name, value string) {
	for i := range c.list {
		if c.list[i].name == name {
			return
		}
	}
	if value != "" || c.r.members.find(name) >= 0 {
		c.list = append(c.list, change{name, value})
	}
}

func (c *changes) edit(e Edit) {
	r := c.r
	if r.Dialect != DialectChat {
		c.editDialect(e)
		return
	}
	if e.Model != "" && (e.Model != r.Model || r.Raw("model") == nil) {
		c.add("model", string(rawjson.AppendString(make([]byte, 0, len(e.Model)+2), e.Model)))
	}
	if e.NoStreamOptions {
		c.add("stream_options", "")
	} else if e.AskUsage && r.Stream && !r.IncludeUsage {
		c.add("stream_options", withUsage(r.Raw("stream_options")))
	}
	if !e.KeepUsageField {
		c.add("usage", "")
	}
	c.limit(e)
	for _, name := range e.Drop {
		c.add(name, "")
	}
	for _, name := range sortedNames(e.Set) {
		if !isLimit(name) {
			c.add(name, e.Set[name])
		}
	}
	for _, name := range sortedNames(e.Default) {
		if raw := r.Raw(name); !isLimit(name) && (raw == nil || raw[0] == 'n') {
			c.add(name, e.Default[name])
		}
	}
	if raw := r.Raw("metadata"); raw != nil {
		if rest, ours := withoutOurs(raw); ours {
			c.add("metadata", rest)
		}
	}
}

// withoutOurs is a request's metadata without the members that are ours; ""
// when they were all there was. It reports false when there are none.
func withoutOurs(raw []byte) (rest string, ours bool) {
	if raw[0] != '{' {
		return "", false
	}
	s := rawjson.Scanner{Data: raw, MaxDepth: maxRequestDepth}
	kept := []byte{'{'}
	for more := s.Open('{'); more; more = s.More('}') {
		s.Next()
		from := s.Pos
		name := string(s.Bytes(s.Key()))
		s.Skip()
		if name == "user_id" || name == "budget_usd" {
			ours = true
			continue
		}
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(kept, raw[from:s.Pos]...)
	}
	if len(kept) == 1 {
		return "", ours
	}
	return string(append(kept, '}')), ours
}

// sortedNames are the names whose values are JSON, in a fixed order.
func sortedNames(values map[string]string) []string {
	if len(values) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(values)), func(name string) bool { return !rawjson.Valid(string(values[name]), maxRequestDepth) })
}

// limit sets the output limit: to the attempt's own, else to the operator's,
// else, when the client named two that differ, to the one that we count with,
// so that no upstream can go by the other.
func (c *changes) limit(e Edit) {
	limit, name := c.wantedLimit(e)
	if limit == 0 {
		return
	}
	reads := name
	if isLimit(e.LimitField) {
		reads = e.LimitField
	}
	named, read := false, false
	for _, f := range limitFields {
		n, ok := c.r.limit(f)
		switch {
		case !ok:
		case e.LimitAlone && fieldNames[f] != reads:
			c.add(fieldNames[f], "")
		default:
			named, read = true, read || fieldNames[f] == reads
			if n != limit {
				c.add(fieldNames[f], strconv.FormatInt(limit, 10))
			}
		}
	}
	switch {
	case !named && e.LimitAlone:
		c.add(reads, strconv.FormatInt(limit, 10))
	case !named:
		c.add(name, strconv.FormatInt(limit, 10))
	}
	if !read && isLimit(e.LimitField) && !e.LimitEither {
		c.add(reads, strconv.FormatInt(limit, 10))
	}
}

// wantedLimit is the output limit that goes upstream, 0 for none, and the field
// that it is written in where the client named none.
func (c *changes) wantedLimit(e Edit) (limit int64, name string) {
	limit, name = e.MaxTokens, e.LimitField
	if limit == 0 {
		limit, name = limitIn(e.Set)
	}
	if limit == 0 && c.r.MaxTokens == 0 {
		limit, name = limitIn(e.Default)
	}
	if limit == 0 {
		limit = c.r.MaxTokens
	}
	if !isLimit(name) {
		name = fieldNames[fieldMaxTokens]
	}
	return limit, name
}

// limitFields are the two names of the output limit; the first wins.
var limitFields = [...]field{fieldMaxCompletionTokens, fieldMaxTokens}

// limitIn is the output limit among an operator's values, and its name.
func limitIn(values map[string]string) (int64, string) {
	if len(values) == 0 {
		return 0, ""
	}
	for _, f := range limitFields {
		if n, ok := wholeValue([]byte(values[fieldNames[f]]), math.MaxInt32); ok && n > 0 && n <= math.MaxInt32 {
			return n, fieldNames[f]
		}
	}
	return 0, ""
}

func isLimit(name string) bool {
	return name == fieldNames[fieldMaxTokens] || name == fieldNames[fieldMaxCompletionTokens]
}

// limit is the output limit that a field names.
func (r *Request) limit(f field) (int64, bool) {
	raw := r.Raw(fieldNames[f])
	if raw == nil || raw[0] == 'n' {
		return 0, false
	}
	return wholeValue(raw, math.MaxInt32)
}

// withUsage is stream_options with include_usage on, and otherwise as it was.
func withUsage(raw []byte) string {
	if len(raw) == 0 || raw[0] != '{' {
		return `{"include_usage":true}`
	}
	s := rawjson.Scanner{Data: raw, MaxDepth: maxRequestDepth}
	empty := true
	for more := s.Open('{'); more; more = s.More('}') {
		empty = false
		k := s.Bytes(s.Key())
		from := s.Pos
		s.Skip()
		if string(k) == "include_usage" {
			return string(raw[:from]) + "true" + string(raw[s.Pos:])
		}
	}
	if empty {
		return `{"include_usage":true}`
	}
	return `{"include_usage":true,` + string(raw[1:])
}

// splice writes the new body in one copy. Changed members keep their place,
// new ones come last.
func (r *Request) splice(from *Request, changes []change) {
	size := len(from.Body)
	for _, c := range changes {
		size += len(c.name) + len(c.value) + len(`"":,`)
	}
	old := from.members // never empty: there are messages
	out := append(NewBody(size), from.Body[:old[0].key]...)
	list := make(members, 0, len(old)+len(changes))
	for i, m := range old {
		c := indexChange(changes, m.name)
		if c >= 0 && changes[c].value == "" {
			continue
		}
		if len(list) > 0 {
			out = append(out, from.Body[old[i-1].to:m.key]...) // the comma
		}
		moved := member{name: m.name, key: len(out)}
		moved.value = moved.key + m.value - m.key
		if c >= 0 {
			out = append(append(out, from.Body[m.key:m.value]...), changes[c].value...)
		} else {
			out = append(out, from.Body[m.key:m.to]...)
		}
		moved.to = len(out)
		list = append(list, moved)
	}
	for _, c := range changes {
		if c.value == "" || old.find(c.name) >= 0 {
			continue
		}
		if len(list) > 0 {
			out = append(out, ',')
		}
		added := member{name: c.name, key: len(out)}
		out = append(rawjson.AppendString(out, c.name), ':')
		added.value = len(out)
		out = append(out, c.value...)
		added.to = len(out)
		list = append(list, added)
	}
	r.members, r.spliced = list, true
	r.Body = append(out, from.Body[old[len(old)-1].to:]...)
}

func indexChange(changes []change, name string) int {
	return slices.IndexFunc(changes, func(c change) bool { return c.name == name })
}

// update brings the facts in line with a change.
func (r *Request) update(c change) {
	f := fieldOf([]byte(c.name))
	switch {
	case c.value == "" || f == fieldStreamOptions || f == fieldUsage:
		// What the client wants to see does not change.
	case isLimit(c.name) || r.Dialect != DialectChat && c.name == r.Dialect.limitName():
		r.MaxTokens, _ = wholeValue([]byte(c.value), math.MaxInt32)
	case f != fieldOther:
		_ = r.setField(f, []byte(c.value)) // the operator's own values
	}
}
