package translate

import (
	"strconv"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// editDialect is edit for a request that goes to an upstream in the client's
// own dialect: the model, the output limit and the operator's fields change,
// all else is the client's.
func (c *changes) editDialect(e Edit) {
	r := c.r
	if e.Model != "" && (e.Model != r.Model || r.Raw("model") == nil) {
		c.add("model", string(rawjson.AppendString(make([]byte, 0, len(e.Model)+2), e.Model)))
	}
	if !e.KeepUsageField {
		c.add("usage", "")
	}
	name := r.Dialect.limitName()
	limit := e.MaxTokens
	if limit == 0 {
		limit, _ = limitIn(e.Set)
	}
	if limit == 0 && r.MaxTokens == 0 {
		limit, _ = limitIn(e.Default)
	}
	if limit > 0 && limit != r.MaxTokens {
		c.add(name, strconv.FormatInt(limit, 10))
		c.fitThinking(limit)
	}
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
}

// fitThinking keeps the budget of a Messages request's thinking under a limit
// that has been lowered; without room for any, thinking is switched off.
func (c *changes) fitThinking(limit int64) {
	raw := c.r.Raw("thinking")
	if c.r.Dialect != DialectMessages || len(raw) == 0 || raw[0] != '{' {
		return
	}
	value, err := nested("thinking", "budget_tokens", raw)
	if err != nil || value == nil {
		return
	}
	budget, ok := wholeValue(value, 1<<31-1)
	switch {
	case !ok || budget < limit:
	case limit <= minThinkingBudget:
		c.add("thinking", `{"type":"disabled"}`)
	default:
		c.add("thinking", `{"type":"enabled","budget_tokens":`+strconv.FormatInt(limit-1, 10)+`}`)
	}
}

// Without makes a variant of the request without some members, for upstreams
// that refuse them.
func (r *Request) Without(names ...string) *Request {
	return r.With(nil, names...)
}

// With makes a variant of the request with members set to JSON values, and
// others taken out.
func (r *Request) With(set map[string]string, without ...string) *Request {
	c := changes{r: r}
	for _, name := range sortedNames(set) {
		c.add(name, set[name])
	}
	for _, name := range without {
		c.add(name, "")
	}
	if len(c.list) == 0 {
		return r
	}
	v := *r
	v.splice(r, c.list)
	return &v
}

// Named is the request with another model's name in it.
func (r *Request) Named(model string) *Request {
	if r.Model == model {
		return r
	}
	v := *r.With(map[string]string{"model": string(rawjson.AppendString(nil, model))})
	v.Model = model
	return &v
}
