package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
)

// Bedrock starts a player behind Bedrock's Converse and ConverseStream and
// returns its root. It takes any credentials.
func Bedrock(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(playConverse))
	t.Cleanup(server.Close)
	return server.URL
}

const converseUsage = `"usage":{"inputTokens":11,"outputTokens":7,"totalTokens":18}`

func playConverse(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("X-Amzn-Requestid", "req_player")
	w.Header().Set("Content-Type", "application/json")
	p := play(converseCue(body))
	switch {
	case p.refuse:
		w.Header().Set("X-Amzn-Errortype", "ValidationException")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"message":"I will not."}`)
	case strings.HasSuffix(r.URL.Path, "/converse"):
		fmt.Fprint(w, p.converse())
	default:
		w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
		for _, frame := range p.frames() {
			_, _ = w.Write(frame.Encode())
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func (p reply) stopReason() string {
	if len(p.calls) > 0 {
		return "tool_use"
	}
	return "end_turn"
}

func quoted(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// converse is the whole answer.
func (p reply) converse() string {
	var blocks []string
	if p.thoughts != "" {
		blocks = append(blocks, `{"reasoningContent":{"reasoningText":{"text":`+quoted(p.thoughts)+`,"signature":"`+signature+`"}}}`)
	}
	if len(p.text) > 0 {
		blocks = append(blocks, `{"text":`+quoted(strings.Join(p.text, ""))+`}`)
	}
	for _, c := range p.calls {
		blocks = append(blocks, `{"toolUse":{"toolUseId":`+quoted(c.id)+`,"name":`+quoted(c.name)+`,"input":`+c.arguments+`}}`)
	}
	return `{"output":{"message":{"role":"assistant","content":[` + strings.Join(blocks, ",") + `]}},"stopReason":"` + p.stopReason() + `",` + converseUsage + `}`
}

// frames are the streamed answer.
func (p reply) frames() []bedrocktest.Frame {
	frames := []bedrocktest.Frame{bedrocktest.Event("messageStart", `{"role":"assistant"}`)}
	index := -1
	event := func(name, members string) {
		frames = append(frames, bedrocktest.Event(name, fmt.Sprintf(`{"contentBlockIndex":%d%s}`, index, members)))
	}
	block := func(start string, deltas ...string) {
		index++
		if start != "" {
			event("contentBlockStart", `,"start":`+start)
		}
		for _, d := range deltas {
			event("contentBlockDelta", `,"delta":`+d)
		}
		event("contentBlockStop", "")
	}
	if p.thoughts != "" {
		block("", `{"reasoningContent":{"text":`+quoted(p.thoughts)+`}}`, `{"reasoningContent":{"signature":"`+signature+`"}}`)
	}
	if len(p.text) > 0 {
		deltas := make([]string, len(p.text))
		for i, piece := range p.text {
			deltas[i] = `{"text":` + quoted(piece) + `}`
		}
		if p.breakOff {
			block("", deltas[0])
			return append(frames, bedrocktest.Exception("modelStreamErrorException", "The model broke down."))
		}
		block("", deltas...)
	}
	for _, c := range p.calls {
		half := len(c.arguments) / 2
		block(`{"toolUse":{"toolUseId":`+quoted(c.id)+`,"name":`+quoted(c.name)+`}}`,
			`{"toolUse":{"input":`+quoted(c.arguments[:half])+`}}`, `{"toolUse":{"input":`+quoted(c.arguments[half:])+`}}`)
	}
	return append(frames,
		bedrocktest.Event("messageStop", `{"stopReason":"`+p.stopReason()+`"}`),
		bedrocktest.Event("metadata", `{`+converseUsage+`}`))
}
