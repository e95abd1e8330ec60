package translate

import (
	"maps"
	"slices"
	"strconv"
)

// Edit is what one attempt changes in the client's JSON. The zero value
// changes nothing.
type Edit struct {
	Model string // replaces model; "" keeps it
	// MaxTokens, when above 0, sets the output limit: in the client's own
	// field when it named one, else in LimitField.
	MaxTokens  int64
	LimitField string // max_tokens, which is the default, or max_completion_tokens
	// AskUsage sets stream_options.include_usage on a stream.
	AskUsage bool
	// NoStreamOptions takes stream_options out, for upstreams that refuse it.
	NoStreamOptions bool
	// KeepUsageField leaves the "usage" request field in (OpenRouter reads it).
	KeepUsageField bool
	// Set replaces request fields, Default fills in absent ones: top-level
	// names with their JSON values.
	Set, Default map[string]string
}

// change is one member's new value; an empty one takes the member out.
type change struct{ name, value string }

// For makes the variant that one attempt sends: the same request with only the
// members that e names changed, and every other byte as the client sent it.
// IncludeUsage and IncludeCost go on saying what the client asked for.
func (r *Request) For(e Edit) *Request {
	changes := r.changes(e)
	if len(changes) == 0 {
		return r
	}
	v := *r
	v.splice(r, changes)
	for _, c := range changes {
		v.update(c)
	}
	return &v
}

// changes lists what e changes. The edits that routing and billing rely on
// come first: of two changes to one member the first counts.
func (r *Request) changes(e Edit) []change {
	list := make([]change, 0, 4)
	add := func(name, value string) {
		if slices.ContainsFunc(list, func(c change) bool { return c.name == name }) {
			return
		}
		if value != "" || r.members.find(name) >= 0 {
			list = append(list, change{name, value})
		}
	}
	if e.Model != "" && (e.Model != r.Model || r.Raw("model") == nil) {
		add("model", string(appendQuoted(nil, e.Model)))
	}
	if e.NoStreamOptions {
		add("stream_options", "")
	} else if e.AskUsage && r.Stream && !r.IncludeUsage {
		add("stream_options", withUsage(r.Raw("stream_options")))
	}
	if !e.KeepUsageField {
		add("usage", "")
	}
	r.limitChanges(e, add)
	for _, name := range slices.Sorted(maps.Keys(e.Set)) {
		if valid(e.Set[name]) && !isLimit(name) {
			add(name, e.Set[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Default)) {
		if raw := r.Raw(name); valid(e.Default[name]) && !isLimit(name) && (raw == nil || raw[0] == 'n') {
			add(name, e.Default[name])
		}
	}
	return list
}

// limitChanges sets the output limit: to the attempt's own, else to the
// operator's, else, when the client named two that differ, to the one that we
// count with, so that no upstream can go by the other.
func (r *Request) limitChanges(e Edit, add func(name, value string)) {
	limit, name := e.MaxTokens, e.LimitField
	for _, f := range []string{"max_completion_tokens", "max_tokens"} {
		if n, ok := wholeValue([]byte(e.Set[f]), 1<<31-1); ok && n > 0 && limit == 0 {
			limit, name = n, f
		}
	}
	for _, f := range []string{"max_completion_tokens", "max_tokens"} {
		if n, ok := wholeValue([]byte(e.Default[f]), 1<<31-1); ok && n > 0 && limit == 0 && r.MaxTokens == 0 {
			limit, name = n, f
		}
	}
	if limit == 0 {
		limit = r.MaxTokens
	}
	if limit == 0 {
		return
	}
	named := false
	for _, f := range []field{fieldMaxCompletionTokens, fieldMaxTokens} {
		if n, ok := r.limit(f); ok {
			named = true
			if n != limit {
				add(fieldNames[f], strconv.FormatInt(limit, 10))
			}
		}
	}
	if !named {
		if !isLimit(name) {
			name = fieldNames[fieldMaxTokens]
		}
		add(name, strconv.FormatInt(limit, 10))
	}
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
	return wholeValue(raw, 1<<31-1)
}

// withUsage is stream_options with include_usage on, and otherwise as it was.
func withUsage(raw []byte) string {
	if len(raw) == 0 || raw[0] != '{' {
		return `{"include_usage":true}`
	}
	s := scanner{b: raw, maxDepth: maxRequestDepth}
	empty := true
	for more := s.open('{'); more; more = s.more('}') {
		empty = false
		k := s.bytes(s.key())
		from := s.i
		s.skip()
		if string(k) == "include_usage" {
			return string(raw[:from]) + "true" + string(raw[s.i:])
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
	out := append(make([]byte, 0, size), from.Body[:old[0].key]...)
	list := make(members, 0, len(old)+len(changes))
	for i, m := range old {
		c := slices.IndexFunc(changes, func(c change) bool { return c.name == m.name })
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
		out = append(appendQuoted(out, c.name), ':')
		added.value = len(out)
		out = append(out, c.value...)
		added.to = len(out)
		list = append(list, added)
	}
	r.members = list
	r.Body = append(out, from.Body[old[len(old)-1].to:]...)
}

// update brings the facts in line with a change.
func (r *Request) update(c change) {
	f := fieldOf([]byte(c.name))
	switch {
	case c.value == "" || f == fieldStreamOptions || f == fieldUsage:
		// What the client wants to see does not change.
	case isLimit(c.name):
		r.MaxTokens, _ = wholeValue([]byte(c.value), 1<<31-1)
	case f != fieldOther:
		_ = r.fact(f, []byte(c.value)) // the operator's own values
	}
}
