package anthropictest

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

const fine = `"model":"m","max_tokens":10,"messages":[{"role":"user","content":"hi"}]`

func TestCheckAcceptsADocumentedRequest(t *testing.T) {
	for _, body := range []string{
		`{` + fine + `}`,
		`{` + fine + `,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"stop_sequences":["x"],"temperature":1}`,
		`{"model":"m","max_tokens":2000,"thinking":{"type":"enabled","budget_tokens":1024},"tools":[{"name":"f","input_schema":{"type":"object"}}],
		  "messages":[{"role":"user","content":"hi"},
		  {"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"s"},{"type":"tool_use","id":"a","name":"f","input":{}},{"type":"tool_use","id":"b","name":"f","input":{}}]},
		  {"role":"user","content":[{"type":"tool_result","tool_use_id":"b","content":"x"},{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"y"}]},{"type":"text","text":"go on"}]}]}`,
	} {
		if err := Check([]byte(body)); err != nil {
			t.Errorf("%s: got %v", body, err)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	turns := func(blocks ...string) string {
		s := `{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"hi"}`
		for i, b := range blocks {
			s += `,{"role":"` + []string{"assistant", "user"}[i%2] + `","content":[` + b + `]}`
		}
		return s + `]}`
	}
	for name, body := range map[string]string{
		"an unknown field":          `{` + fine + `,"n":1}`,
		"no max_tokens":             `{"model":"m","messages":[{"role":"user","content":"hi"}]}`,
		"max_tokens of 0":           `{"model":"m","max_tokens":0,"messages":[{"role":"user","content":"hi"}]}`,
		"a null":                    `{` + fine + `,"tools":null}`,
		"a field twice":             `{` + fine + `,"model":"n"}`,
		"temperature 1.5":           `{` + fine + `,"temperature":1.5}`,
		"a blank stop sequence":     `{` + fine + `,"stop_sequences":["\n"]}`,
		"a stop string":             `{` + fine + `,"stop_sequences":"x"}`,
		"too large a thought":       `{` + fine + `,"thinking":{"type":"enabled","budget_tokens":1024}}`,
		"a tool name with a dot":    `{` + fine + `,"tools":[{"name":"a.b","input_schema":{"type":"object"}}]}`,
		"a schema without a type":   `{` + fine + `,"tools":[{"name":"a","input_schema":{}}]}`,
		"a choice without tools":    `{` + fine + `,"tool_choice":{"type":"auto"}}`,
		"a choice of another tool":  `{` + fine + `,"tools":[{"name":"a","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"b"}}`,
		"blank system text":         `{` + fine + `,"system":[{"type":"text","text":" "}]}`,
		"no messages":               `{"model":"m","max_tokens":10,"messages":[]}`,
		"the assistant first":       `{"model":"m","max_tokens":10,"messages":[{"role":"assistant","content":"hi"}]}`,
		"a system turn":             `{"model":"m","max_tokens":10,"messages":[{"role":"system","content":"hi"}]}`,
		"a turn of nothing":         `{"model":"m","max_tokens":10,"messages":[{"role":"user","content":[]}]}`,
		"blank text":                turns(`{"type":"text","text":"  "}`),
		"a trailing space":          turns(`{"type":"text","text":"so "}`),
		"an unsigned thought":       turns(`{"type":"thinking","thinking":"x"}`, `{"type":"text","text":"y"}`),
		"an unanswered call":        turns(`{"type":"tool_use","id":"a","name":"f","input":{}}`, `{"type":"text","text":"y"}`),
		"an unanswered last call":   turns(`{"type":"tool_use","id":"a","name":"f","input":{}}`),
		"a result without a call":   turns(`{"type":"text","text":"x"}`, `{"type":"tool_result","tool_use_id":"a","content":"x"}`),
		"a result after text":       turns(`{"type":"tool_use","id":"a","name":"f","input":{}}`, `{"type":"text","text":"y"},{"type":"tool_result","tool_use_id":"a"}`),
		"two results of one call":   turns(`{"type":"tool_use","id":"a","name":"f","input":{}}`, `{"type":"tool_result","tool_use_id":"a"},{"type":"tool_result","tool_use_id":"a"}`),
		"an input that is a string": turns(`{"type":"tool_use","id":"a","name":"f","input":"{}"}`, `{"type":"tool_result","tool_use_id":"a"}`),
		"an id with a bar":          turns(`{"type":"tool_use","id":"a|b","name":"f","input":{}}`, `{"type":"tool_result","tool_use_id":"a|b"}`),
		"an unknown block":          turns(`{"type":"refusal","refusal":"x"}`),
		"image/jpg":                 turns(`{"type":"text","text":"x"}`, `{"type":"image","source":{"type":"base64","media_type":"image/jpg","data":"AAAA"}}`),
		"url-safe base64":           turns(`{"type":"text","text":"x"}`, `{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA-_"}}`),
		"a Word document":           turns(`{"type":"text","text":"x"}`, `{"type":"document","source":{"type":"base64","media_type":"application/msword","data":"AAAA"}}`),
		"five cache points": turns(`{"type":"text","text":"x"}`, strings.Repeat(`{"type":"text","text":"y","cache_control":{"type":"ephemeral"}},`, 4)+
			`{"type":"text","text":"y","cache_control":{"type":"ephemeral"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			if !json.Valid([]byte(body)) {
				t.Fatalf("the test's own JSON is broken: %s", body)
			}
			if Check([]byte(body)) == nil {
				t.Error("got no error")
			}
		})
	}
}

// The whole and the streamed form of a message must say the same.
func TestAStreamHoldsTheWholeMessagesPieces(t *testing.T) {
	m := Message{Blocks: []Block{Thinking("sig", "a", "b"), Text("x", "y"), ToolUse("t", "f", `{"a"`, `:1}`), ToolUse("u", "g"), Redacted("AA==")}, Stop: "tool_use"}
	if !json.Valid([]byte(m.JSON())) {
		t.Fatalf("not JSON: %s", m.JSON())
	}
	for _, want := range []string{`"thinking":"ab"`, `"text":"xy"`, `"input":{"a":1}`, `"input":{}`, `"data":"AA=="`, `"stop_reason":"tool_use"`} {
		if !strings.Contains(m.JSON(), want) {
			t.Errorf("%s lacks %s", m.JSON(), want)
		}
	}
	for _, e := range m.Events() {
		if !json.Valid([]byte(e)) {
			t.Errorf("not JSON: %s", e)
		}
	}
}

func TestTheFakeAnswersByScript(t *testing.T) {
	s := New(t,
		Answer{Status: 529, Header: map[string]string{"Retry-After": "3"}, Body: ErrorBody("overloaded_error", "busy")},
		Answer{Message: Message{Blocks: []Block{Text("one")}}},
		Answer{Message: Message{Blocks: []Block{Text("one")}}, Fault: Cut, After: 2},
		Answer{Message: Message{Blocks: []Block{Text("one")}}, Fault: Reset, After: 2})
	if status, body, _ := post(t, s, Key, `{`+fine+`}`); status != 529 || !strings.Contains(body, "busy") {
		t.Errorf("got %d %s, want the scripted refusal", status, body)
	}
	if _, body, _ := post(t, s, Key, `{`+fine+`,"stream":true}`); !strings.Contains(body, `"type":"message_stop"`) {
		t.Errorf("got %s, want a whole stream", body)
	}
	if _, body, err := post(t, s, Key, `{`+fine+`,"stream":true}`); err != nil || strings.Count(body, "event: ") != 2 {
		t.Errorf("got %s, %v; want two events and a clean end", body, err)
	}
	if _, _, err := post(t, s, Key, `{`+fine+`,"stream":true}`); err == nil {
		t.Error("got no error from a reset connection")
	}
	if status, _, _ := post(t, s, "wrong", `{`+fine+`}`); status != http.StatusUnauthorized {
		t.Errorf("got %d for a wrong key, want 401", status)
	}
	if got := len(s.Requests()); got != 5 {
		t.Errorf("got %d requests kept, want 5", got)
	}
}

func post(t *testing.T, s *Server, key, body string) (int, string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/v1/messages", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", key)
	r.Header.Set("Anthropic-Version", "2023-06-01")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(bufio.NewReader(res.Body))
	return res.StatusCode, string(text), err
}

func TestCheckKnowsTheRulesOfModels(t *testing.T) {
	const tool = `"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any"}`
	format := func(schema string) string {
		return `"output_config":{"format":{"type":"json_schema","schema":` + schema + `}}`
	}
	for _, row := range []struct {
		model, fields string
		good          bool
	}{
		{"claude-opus-5", tool, true},
		{"claude-opus-5-5", tool, false},
		{"claude-opus-5", `"thinking":{"type":"disabled"}`, true},
		{"claude-opus-5-5", `"thinking":{"type":"disabled"}`, false},
		{"claude-sonnet-4-5", `"thinking":{"type":"adaptive"}`, false},
		{"claude-opus-4-6", `"temperature":0.5`, true},
		{"claude-opus-4-7", `"temperature":0.5`, false},
		{"claude-opus-4-6", `"output_config":{"effort":"max"}`, true},
		{"claude-opus-4-6", `"output_config":{"effort":"xhigh"}`, false},
		{"claude-opus-5", `"tools":[{"name":"f","input_schema":{"type":"object","properties":{"a b":{}}}}]`, false},
		{"claude-opus-5", format(`{"type":"object","properties":{"minimum":{"type":"string","enum":["maximum"]}},"additionalProperties":false}`), true},
		{"claude-opus-5", format(`{"type":"object","properties":{"a":{"type":"integer","minimum":1}},"additionalProperties":false}`), false},
		{"claude-opus-5", format(`{"type":"object","properties":{"a":{"type":"object"}},"additionalProperties":false}`), false},
		{"claude-opus-4-1", format(`{"type":"string"}`), false},
	} {
		body := `{"model":"` + row.model + `","max_tokens":10,"messages":[{"role":"user","content":"hi"}],` + row.fields + `}`
		if err := Check([]byte(body)); (err == nil) != row.good {
			t.Errorf("%s: got %v", body, err)
		}
	}
}
