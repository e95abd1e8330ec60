package proxy

import (
	"errors"
	"fmt"

	"github.com/inference-router/inference-router/internal/rawjson"
)

// What a body that is decoded into Go values may hold. A few bytes of JSON can
// take many times their size in memory, so this is looked at before.
const (
	maxBodyDepth   = 64
	maxBodyMembers = 1 << 16 // of all objects together
	maxBodyArrays  = 1 << 16 // arrays and objects together
	maxBodyItems   = 1 << 20 // elements of all arrays together: embeddings take tokens as numbers
	maxTopMembers  = 1024
	maxHistory     = 4096 // messages of a query
)

// bodyLimits walks over a body and counts, without building anything.
type bodyLimits struct {
	rawjson.Scanner
	members, arrays, items int
}

// checkBody makes sure that decoding body costs no more memory than a few times
// its size. The error is for the client, and names the limit.
func checkBody(body []byte) error {
	l := bodyLimits{Scanner: rawjson.Scanner{Data: body, MaxDepth: maxBodyDepth}}
	l.value("")
	l.End()
	if l.Err == nil {
		return nil
	}
	var syntax *rawjson.SyntaxError
	if errors.As(l.Err, &syntax) {
		e := invalid("", "the body is not valid JSON: %v", syntax)
		e.Code = "invalid_json"
		return e
	}
	return l.Err
}

// value walks over one value; name is the top-level member that it stands in.
func (l *bodyLimits) value(name string) {
	switch l.Next() {
	case '{':
		l.count(&l.arrays, maxBodyArrays, name, "arrays and objects")
		n := 0
		for more := l.Open('{'); more; more = l.More('}') {
			key := l.Key()
			if n++; name == "" && n > maxTopMembers {
				l.refuse("", "the body has more than %d members", maxTopMembers)
			}
			l.count(&l.members, maxBodyMembers, name, "object members")
			inner := name
			if name == "" && l.Err == nil {
				inner = string(l.Data[key.From:min(key.To, key.From+64)])
			}
			l.value(inner)
		}
	case '[':
		l.count(&l.arrays, maxBodyArrays, name, "arrays and objects")
		n := 0
		for more := l.Open('['); more; more = l.More(']') {
			if n++; name == "messages" && n > maxHistory {
				l.refuse(name, "messages has more than %d elements", maxHistory)
			}
			l.count(&l.items, maxBodyItems, name, "array elements")
			l.value(name)
		}
	default:
		l.Skip()
	}
}

func (l *bodyLimits) count(n *int, most int, name, what string) {
	if *n++; *n > most {
		l.refuse(name, "the body has more than %d %s", most, what)
	}
}

func (l *bodyLimits) refuse(param, format string, args ...any) {
	if l.Err == nil {
		e := invalid(param, "%s", fmt.Sprintf(format, args...))
		e.Code = "array_above_max_length"
		l.Err = e
	}
}
