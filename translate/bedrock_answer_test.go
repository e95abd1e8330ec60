package translate

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/tidwall/gjson"
)

var testHead = AnswerHead{ID: "chatcmpl-X", Model: "bedrock/m", Created: 1700000000, RequestID: "req"}

// bedrockCase is one recorded stream: the model, the client's request, the
// events; and the whole answer that says the same.
type bedrockCase struct {
	name, model, request string
	events               []BedrockEvent
	whole                []byte // nil when there is none
}

func bedrockCases(t *testing.T) (cases []bedrockCase) {
	t.Helper()
	files, err := filepath.Glob("testdata/bedrock/*.events")
	if err != nil || len(files) < 30 {
		t.Fatalf("got %d recorded streams, %v", len(files), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := bedrockCase{name: strings.TrimSuffix(filepath.Base(file), ".events")}
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch name {
			case "model":
				c.model = value
			case "request":
				c.request = value
			default:
				c.events = append(c.events, BedrockEvent{Type: name, Payload: []byte(value)})
			}
		}
		if c.whole, err = os.ReadFile(strings.TrimSuffix(file, ".events") + ".whole"); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	return cases
}

func (c bedrockCase) ask(t *testing.T) *BedrockRequest {
	t.Helper()
	r, err := ParseRequest([]byte(c.request))
	if err != nil {
		t.Fatal(err)
	}
	q, err := ToBedrock(r, BedrockOptions{Capabilities: LookupCapabilities("bedrock", c.model)})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// replay gives events one by one, each in the same buffer, as a reader would.
func replay(events []BedrockEvent, last error) iter.Seq2[BedrockEvent, error] {
	return func(yield func(BedrockEvent, error) bool) {
		var buffer []byte
		for _, e := range events {
			buffer = append(buffer[:0], e.Payload...)
			e.Payload = buffer
			if !yield(e, nil) {
				return
			}
			for i := range buffer {
				buffer[i] = 'x'
			}
		}
		if last != nil {
			yield(BedrockEvent{}, last)
		}
	}
}

func TestBedrockStreamsMatchTheirGoldenFiles(t *testing.T) {
	for _, c := range bedrockCases(t) {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			check := streamChecker{t: t}
			for chunk, err := range FromBedrockStream(c.ask(t), replay(c.events, nil), testHead) {
				if err != nil {
					t.Fatal(err)
				}
				check.chunk(chunk)
				if len(chunk.Data) > 0 {
					out.WriteString("data: ")
					out.Write(chunk.Data)
					out.WriteString("\n\n")
				}
			}
			check.end()
			golden(t, "testdata/bedrock/"+c.name+".sse", out.Bytes())
		})
	}
}

// streamChecker holds every stream to what clients rely on; OpenAI's own
// client is one of the judges.
type streamChecker struct {
	t             *testing.T
	accumulator   openai.ChatCompletionAccumulator
	n, finishes   int
	roles, usages int
	ended         bool
}

func (s *streamChecker) chunk(c Chunk) {
	s.t.Helper()
	if s.n == 0 && c.Head == nil || s.n > 0 && c.Head != nil {
		s.t.Errorf("chunk %d: head is %v", s.n, c.Head)
	}
	s.n++
	if c.Usage != nil {
		s.usages++
	}
	if len(c.Data) == 0 {
		return
	}
	var typed openai.ChatCompletionChunk
	if err := json.Unmarshal(c.Data, &typed); err != nil {
		s.t.Fatalf("not a chunk: %v: %s", err, c.Data)
	}
	custom := bytes.Contains(c.Data, []byte(`"custom"`)) // which the accumulator does not know
	if !custom && !s.accumulator.AddChunk(typed) {
		s.t.Errorf("openai-go refuses %s", c.Data)
	}
	v := gjson.ParseBytes(c.Data)
	if v.Get("error").Exists() || v.Get("id").Str != testHead.ID || v.Get("object").Str != "chat.completion.chunk" || v.Get("created").Int() != testHead.Created {
		s.t.Errorf("wrong frame: %s", c.Data)
	}
	if s.ended && len(v.Get("choices").Array()) > 0 {
		s.t.Errorf("said after the finish: %s", c.Data)
	}
	for _, choice := range v.Get("choices").Array() {
		if choice.Get("index").Raw != "0" || !choice.Get("finish_reason").Exists() {
			s.t.Errorf("wrong choice: %s", c.Data)
		}
		if choice.Get("delta.role").Exists() {
			s.roles++
		}
		if finish := choice.Get("finish_reason").Str; finish != "" {
			s.finishes++
			s.ended = true
			if finish != c.Finish {
				s.t.Errorf("Finish is %q in %s", c.Finish, c.Data)
			}
		}
	}
}

func (s *streamChecker) end() {
	s.t.Helper()
	if s.finishes != 1 || s.roles != 1 || s.usages > 1 {
		s.t.Errorf("got %d finishes, %d roles, %d usages, want one of each", s.finishes, s.roles, s.usages)
	}
}

func TestBedrockWholeAnswersMatchTheirGoldenFilesAndTheirStreams(t *testing.T) {
	twins := 0
	for _, c := range bedrockCases(t) {
		if c.whole == nil {
			continue
		}
		twins++
		t.Run(c.name, func(t *testing.T) {
			q := c.ask(t)
			whole, err := FromBedrock(q, c.whole, testHead)
			if err != nil {
				t.Fatal(err)
			}
			var typed openai.ChatCompletion
			if err := json.Unmarshal(whole.Data, &typed); err != nil || !whole.Whole || whole.Head == nil {
				t.Fatalf("not a chat.completion: %v: %s", err, whole.Data)
			}
			golden(t, "testdata/bedrock/"+c.name+".json", append(bytes.Clone(whole.Data), '\n'))
			for name, events := range map[string]iter.Seq2[BedrockEvent, error]{"its stream": replay(c.events, nil), "itself taken apart": WholeEvents(c.whole)} {
				joined, err := Join(FromBedrockStream(q, events, testHead))
				if err != nil {
					t.Fatal(err)
				}
				if !sameJSON(string(joined), string(whole.Data)) {
					t.Errorf("%s joined is\n%s\nthe whole answer\n%s", name, joined, whole.Data)
				}
			}
			if joined, err := Join(func(yield func(Chunk, error) bool) { yield(whole, nil) }); err != nil || !bytes.Equal(joined, whole.Data) {
				t.Errorf("a whole answer joined is %s, %v", joined, err)
			}
		})
	}
	if twins < 25 {
		t.Errorf("got %d twins", twins)
	}
}

// TestEveryCutOfAStreamIsAnError is trap 63: only messageStop completes.
func TestTrap63EveryCutOfAStreamIsAnError(t *testing.T) {
	for _, c := range bedrockCases(t) {
		stop := 0
		for i, e := range c.events {
			if e.Type == "messageStop" {
				stop = i
			}
		}
		for cut := range c.events {
			var last error
			finishes := 0
			for chunk, err := range FromBedrockStream(c.ask(t), replay(c.events[:cut], nil), testHead) {
				last = err
				if chunk.Finish != "" {
					finishes++
				}
			}
			if complete := cut > stop; complete != (last == nil) || !complete && finishes > 0 {
				t.Errorf("%s cut after %d of %d events: error %v, %d finishes", c.name, cut, len(c.events), last, finishes)
			}
		}
	}
}

func TestErrorsOfAStreamSayWhatMayBeBilled(t *testing.T) {
	c := bedrockCases(t)[0]
	for _, events := range []int{0, 2} {
		failed := BedrockError("throttlingException", 200, []byte(`{"message":"slow"}`))
		var last error
		for _, err := range FromBedrockStream(c.ask(t), replay(c.events[:events], failed), testHead) {
			last = err
		}
		billed := BilledNothing
		if events > 0 {
			billed = BilledPartly
		}
		var got *UpstreamError
		if !errors.As(last, &got) || got.Billed != billed || got.Kind != KindRateLimited {
			t.Errorf("after %d events: got %v, billed %v, want %v", events, last, got.Billed, billed)
		}
	}
}

func TestMalformedOutputIsAnError(t *testing.T) {
	c := bedrockCase{request: `{"messages":[{"role":"user","content":"a"}]}`}
	for _, row := range []struct{ name, answer, code string }{
		{"trap 54: malformed_model_output", `{"output":{"message":{"content":[{"text":"a"}]}},"stopReason":"malformed_model_output"}`, "malformed_model_output"},
		{"trap 54: malformed_tool_use", `{"output":{"message":{"content":[]}},"stopReason":"malformed_tool_use"}`, "malformed_model_output"},
		{"no stop reason and nothing said", `{"output":{"message":{"content":[]}}}`, "invalid_upstream_response"},
		{"no output", `{"usage":{}}`, "invalid_upstream_response"},
		{"not JSON", `{"output":`, "invalid_upstream_response"},
		{"nothing", ``, "invalid_upstream_response"},
	} {
		_, err := FromBedrock(c.ask(t), []byte(row.answer), testHead)
		var got *UpstreamError
		if !errors.As(err, &got) || got.Code != row.code {
			t.Errorf("%s: got %v, want %s", row.name, err, row.code)
		}
	}
}

func TestOutputBytesBoundTheModelsWords(t *testing.T) {
	for _, c := range bedrockCases(t) {
		var said, counted int64
		for _, e := range c.events {
			v := gjson.ParseBytes(e.Payload)
			said += int64(len(v.Get("delta.text").Str) + len(v.Get("delta.reasoningContent.text").Str))
			if v.Get("start.toolUse.type").Str == "" && !strings.Contains(c.name, "providers_own") {
				said += int64(len(v.Get("delta.toolUse.input").Str))
			}
		}
		for chunk, err := range FromBedrockStream(c.ask(t), replay(c.events, nil), testHead) {
			if err != nil {
				t.Fatal(err)
			}
			counted += chunk.OutputBytes
		}
		if counted < said {
			t.Errorf("%s: counted %d bytes of %d", c.name, counted, said)
		}
	}
}

func FuzzFromBedrock(f *testing.F) {
	f.Add([]byte(`{"output":{"message":{"role":"assistant","content":[{"text":"a"},{"toolUse":{"toolUseId":"t","name":"f","input":{"a":1}}},{"reasoningContent":{"redactedContent":"AA=="}}]}},"stopReason":"tool_use","usage":{"inputTokens":1,"outputTokens":2}}`))
	q := fuzzRequest(f)
	f.Fuzz(func(t *testing.T, answer []byte) {
		c, err := FromBedrock(q, answer, testHead)
		if err == nil && !json.Valid(c.Data) {
			t.Errorf("not JSON: %q", c.Data)
		}
		if joined, joinErr := Join(FromBedrockStream(q, WholeEvents(answer), testHead)); joinErr == nil && !json.Valid(joined) {
			t.Errorf("not JSON: %q", joined)
		}
	})
}

func fuzzRequest(f *testing.F) *BedrockRequest {
	f.Helper()
	r, err := ParseRequest([]byte(`{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f"}},{"type":"custom","custom":{"name":"c"}}]}`))
	if err != nil {
		f.Fatal(err)
	}
	q, err := ToBedrock(r, BedrockOptions{Capabilities: LookupCapabilities("bedrock", claude45)})
	if err != nil {
		f.Fatal(err)
	}
	return q
}

// FuzzFromBedrockStream takes lines of "event payload".
func FuzzFromBedrockStream(f *testing.F) {
	files, _ := filepath.Glob("testdata/bedrock/*.events")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	q := fuzzRequest(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var events []BedrockEvent
		for line := range bytes.Lines(data) {
			name, payload, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
			events = append(events, BedrockEvent{Type: string(name), Payload: payload})
		}
		finishes, failed := 0, false
		for c, err := range FromBedrockStream(q, replay(events, nil), testHead) {
			if failed {
				t.Error("something after an error")
			}
			failed = err != nil
			if len(c.Data) > 0 && !json.Valid(c.Data) {
				t.Errorf("not JSON: %q", c.Data)
			}
			if c.Finish != "" {
				finishes++
			}
		}
		if finishes > 1 || !failed && finishes == 0 {
			t.Errorf("got %d finishes, failed %t", finishes, failed)
		}
	})
}
