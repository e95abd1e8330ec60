package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// body describes the requests: a conversation of the given size whose newest
// turn is a short question, as chat clients send it.
type body struct {
	size   int // bytes
	chunks int // 0 asks for a whole answer
	pace   time.Duration
}

const turn = "We keep sessions in a table with one row per user and \"last seen\" as its index.\n" +
	"Under load the writes to that index dominate, and vacuum does not keep up any more.\n" +
	"- reads: 900 a second, nearly all of them for rows touched within the minute\n" +
	"- writes: 400 a second\n\nWhat we tried: batching in the client, a partial index, and a larger pool. "

// request is the whole HTTP request.
func (b body) request(host, user string) []byte {
	text := b.json()
	return fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
		"Authorization: Bearer sk-bench\r\nAccept: application/json\r\nUser-Agent: OpenAI/Go 3.0.0\r\n"+
		"X-Router-User: %s\r\nContent-Length: %d\r\n\r\n%s", host, user, len(text), text)
}

// json is as near to b.size as whole turns of about two kilobytes come, and
// then filled up.
func (b body) json() []byte {
	question := "Should we put a cache before it, and what would tell us that it was worth it?"
	if b.pace > 0 {
		question += fmt.Sprintf(" pace=%s", b.pace)
	}
	messages := []string{message("system", "You are a careful engineer. Answer in a few sentences."), message("user", question)}
	tail := `],"temperature":0.7,"max_completion_tokens":200}`
	if b.chunks > 0 {
		tail = fmt.Sprintf(`],"temperature":0.7,"max_completion_tokens":%d,"stream":true}`, b.chunks)
	}
	const head = `{"model":"auto","messages":[`
	used := len(head) + len(tail) + len(messages[0]) + len(messages[1]) + 1
	history := []string{messages[0]}
	for role := "user"; used < b.size; {
		empty := len(message(role, "")) + 1
		room := min(2048, b.size-used) - empty
		if room < 1 {
			break
		}
		m := message(role, text(room))
		history = append(history, m)
		used += len(m) + 1
		if role == "user" {
			role = "assistant"
		} else {
			role = "user"
		}
	}
	return []byte(head + strings.Join(append(history, messages[1]), ",") + tail)
}

func message(role, content string) string {
	quoted, err := json.Marshal(content)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return fmt.Sprintf(`{"role":%q,"content":%s}`, role, quoted)
}

// text is prose whose JSON form has about n bytes.
func text(n int) string {
	quoted, _ := json.Marshal(turn)
	perTurn := len(quoted) - 2
	whole := strings.Repeat(turn, n/perTurn)
	return whole + strings.Repeat("x", n%perTurn)
}
