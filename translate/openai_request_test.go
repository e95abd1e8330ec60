package translate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

func parse(t *testing.T, body string) *Request {
	t.Helper()
	r, err := ParseRequest([]byte(body))
	if err != nil {
		t.Fatalf("ParseRequest(%s): %v", body, err)
	}
	return r
}

const hi = `"messages":[{"role":"user","content":"hi"}]`

func TestCachesForAnHour(t *testing.T) {
	const user = `"messages":[{"role":"user","content":`
	for body, want := range map[string]bool{
		`{` + user + `"throttle the \"ttl\" of it"}]}`:                                                      false,
		`{` + user + `[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]}`:                 false,
		`{` + user + `[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}}]}]}`:      true,
		`{` + user + `[{"type":"text","text":"a","cache_control":{"type":"ephemeral","t\u0074l":"1h"}}]}]}`: true,
		`{"prompt_cache_retention":"24h",` + user + `"a"}]}`:                                                true,
		`{"prompt\u005Fcache_retention":"24h",` + user + `"a"}]}`:                                           true,
	} {
		r, err := ParseRequest([]byte(body))
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if r.CachesForAnHour() != want {
			t.Errorf("%s: got %v", body, !want)
		}
	}
}

func TestParseRequestReadsTheFacts(t *testing.T) {
	r := parse(t, `{
		"mo\u0064el": "gpt-4o", "stream": true, "n": 2, "max_tokens": 10, "max_completion_tokens": 2e1,
		"stream_options": {"include_usage": true}, "usage": {"include": true},
		"user": "u\u00e9", "safety_identifier": "s", "metadata": {"user_id": "m", "budget_usd": 0.10},
		"tools": [{"type":"function"}], "response_format": {"type":"json_schema","json_schema":{}},
		"messages": [
			{"role":"system","content":"be brief"},
			{"role":"user","content":"first"},
			{"content":[
				{"type":"text","text":"line \"one\""},
				{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}},
				{"type":"input_audio","input_audio":{"data":"BBBB","format":"wav"}},
				{"type":"file","file":{"file_data":"CCCC","filename":"x"}},
				{"type":"text","text":"two\ud83d\ude00"}],"role":"user"},
			{"role":"assistant","content":null,"tool_calls":[]}
		]}`)
	if r.Model != "gpt-4o" || !r.Stream || !r.IncludeUsage || !r.IncludeCost || r.N != 2 {
		t.Errorf("got model %q stream %v usage %v cost %v n %d", r.Model, r.Stream, r.IncludeUsage, r.IncludeCost, r.N)
	}
	if r.MaxTokens != 20 {
		t.Errorf("MaxTokens = %d, want max_completion_tokens' 20", r.MaxTokens)
	}
	if want := "line \"one\"\ntwo😀"; r.Prompt() != want {
		t.Errorf("Prompt = %q, want %q", r.Prompt(), want)
	}
	if r.Messages != 4 || r.Images != 1 || r.Audio != 1 || r.Files != 1 || !r.Tools || !r.Schema {
		t.Errorf("got %d messages, %d images, %d audio, %d files, tools %v, schema %v", r.Messages, r.Images, r.Audio, r.Files, r.Tools, r.Schema)
	}
	if r.User != "ué" || r.SafetyIdentifier != "s" || r.MetadataUser != "m" || r.MetadataBudget != "0.10" {
		t.Errorf("got user %q, safety %q, metadata %q %q", r.User, r.SafetyIdentifier, r.MetadataUser, r.MetadataBudget)
	}
	media := len("data:image/png;base64,AAAA" + "BBBB" + "CCCC")
	if want := int64(len(r.Body) - media + 4*messageOverhead + toolsOverhead); r.InputBytes != want {
		t.Errorf("InputBytes = %d, want %d", r.InputBytes, want)
	}
	if got := string(r.Raw("user")); got != `"u\u00e9"` {
		t.Errorf("Raw(user) = %s", got)
	}
	if got := r.Raw("absent"); got != nil {
		t.Errorf("Raw(absent) = %s, want nil", got)
	}
}

func TestParseRequestPrompt(t *testing.T) {
	for _, c := range []struct{ name, messages, want string }{
		{"a plain text", `[{"role":"user","content":"hello"}]`, "hello"},
		{"only the newest user turn", `[{"role":"user","content":"old"},{"role":"assistant","content":"x"},{"role":"user","content":"new"},{"role":"assistant","content":"y"}]`, "new"},
		{"nobody asks", `[{"role":"system","content":"x"}]`, ""},
		{"a role with an escape", `[{"role":"us\u0065r","content":"hello"}]`, "hello"},
		{"an empty newest turn", `[{"role":"user","content":"old"},{"role":"user","content":""}]`, ""},
		{"null content", `[{"role":"user","content":null}]`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := parse(t, `{"messages":`+c.messages+`}`).Prompt(); got != c.want {
				t.Errorf("Prompt = %q, want %q", got, c.want)
			}
		})
	}
}

func TestParseRequestRefuses(t *testing.T) {
	deep := strings.Repeat("[", 64) + strings.Repeat("]", 64)
	for _, c := range []struct{ name, body, param string }{
		{"nothing", ``, ""},
		{"an array", `[]`, ""},
		{"two objects", `{` + hi + `}{}`, ""},
		{"a trailing comma", `{` + hi + `,}`, ""},
		{"a trailing comma in an array", `{` + hi + `,"x":[1,]}`, ""},
		{"an unquoted key", `{model:1}`, ""},
		{"a bad literal", `{` + hi + `,"x":nul}`, ""},
		{"a leading zero", `{` + hi + `,"x":01}`, ""},
		{"a bare minus", `{` + hi + `,"x":-}`, ""},
		{"a number without a fraction's digits", `{` + hi + `,"x":1.}`, ""},
		{"a control character", "{" + hi + ",\"x\":\"\n\"}", ""},
		{"broken UTF-8", "{" + hi + ",\"x\":\"\xff\"}", ""},
		{"half a UTF-8 character", "{" + hi + ",\"x\":\"\xe4\xb8\"}", ""},
		{"a bad escape", `{` + hi + `,"x":"\q"}`, ""},
		{"a short escape", `{` + hi + `,"x":"\u12"}`, ""},
		{"a string without an end", `{` + hi + `,"x":"`, ""},
		{"65 levels", `{` + hi + `,"x":` + deep + `}`, ""},
		{"the same name twice", `{` + hi + `,"model":"a","model":"b"}`, "model"},
		{"the same name twice, once escaped", `{` + hi + `,"model":"a","m\u006fdel":"b"}`, "model"},
		{"an unknown name twice", `{` + hi + `,"x":1,"x":1}`, "x"},
		{"another case beside", `{` + hi + `,"max_tokens":5,"MAX_TOKENS":1}`, "MAX_TOKENS"},
		{"another case alone", `{` + hi + `,"Model":"x"}`, "Model"},
		{"a long s that folds", `{` + hi + `,"ſtream":true}`, "ſtream"},
		{"no messages", `{}`, "messages"},
		{"null messages", `{"messages":null}`, "messages"},
		{"empty messages", `{"messages":[]}`, "messages"},
		{"messages as an object", `{"messages":{}}`, "messages"},
		{"a message that is text", `{"messages":["hi"]}`, "messages[0]"},
		{"a model that is a number", `{` + hi + `,"model":4}`, "model"},
		{"a stream that is text", `{` + hi + `,"stream":"true"}`, "stream"},
		{"options that are a list", `{` + hi + `,"stream_options":[]}`, "stream_options"},
		{"include_usage as text", `{` + hi + `,"stream_options":{"include_usage":"yes"}}`, "stream_options.include_usage"},
		{"include_usage twice", `{` + hi + `,"stream_options":{"include_usage":true,"include_usage":false}}`, "stream_options.include_usage"},
		{"max_tokens 0", `{` + hi + `,"max_tokens":0}`, "max_tokens"},
		{"max_tokens below 0", `{` + hi + `,"max_tokens":-5}`, "max_tokens"},
		{"max_tokens with a fraction", `{` + hi + `,"max_tokens":1.5}`, "max_tokens"},
		{"max_tokens beyond int32", `{` + hi + `,"max_tokens":2147483648}`, "max_tokens"},
		{"max_tokens beyond float64", `{` + hi + `,"max_tokens":1e400}`, "max_tokens"},
		{"max_tokens as text", `{` + hi + `,"max_completion_tokens":"100"}`, "max_completion_tokens"},
		{"n 0", `{` + hi + `,"n":0}`, "n"},
		{"n 129", `{` + hi + `,"n":129}`, "n"},
		{"temperature above 2", `{` + hi + `,"temperature":2.01}`, "temperature"},
		{"temperature below 0", `{` + hi + `,"temperature":-0.1}`, "temperature"},
		{"temperature as text", `{` + hi + `,"temperature":"hot"}`, "temperature"},
		{"top_p above 1", `{` + hi + `,"top_p":1.5}`, "top_p"},
		{"a user that is a number", `{` + hi + `,"user":5}`, "user"},
		{"metadata as text", `{` + hi + `,"metadata":"x"}`, "metadata"},
		{"a user id that is a number", `{` + hi + `,"metadata":{"user_id":5}}`, "metadata.user_id"},
		{"two user ids", `{` + hi + `,"metadata":{"user_id":"a","user_id":"b"}}`, "metadata.user_id"},
		{"a budget that is a list", `{` + hi + `,"metadata":{"budget_usd":[]}}`, "metadata.budget_usd"},
		{"tools as an object", `{` + hi + `,"tools":{}}`, "tools"},
		{"513 tools", `{` + hi + `,"tools":[` + strings.Repeat("{},", 512) + `{}]}`, "tools"},
		{"4,097 messages", `{"messages":[` + strings.Repeat("{},", 4096) + `{}]}`, "messages"},
		{"8,193 parts", `{"messages":[{"content":[` + strings.Repeat("{},", 8192) + `{}]}]}`, "messages"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseRequest([]byte(c.body))
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, want an *InvalidError", err)
			}
			if invalid.Param != c.param || invalid.Message == "" {
				t.Errorf("got param %q (%s), want %q", invalid.Param, invalid.Message, c.param)
			}
		})
	}
}

func TestParseRequestAccepts(t *testing.T) {
	deep := strings.Repeat("[", 63) + strings.Repeat("]", 63)
	for _, c := range []struct{ name, body string }{
		{"white space all over", " {\r\n\t" + hi + " , \"x\" : [ 1 , 2.5e-3 , { } , [ ] , \"\" ] } \n"},
		{"null for every fact", `{` + hi + `,"model":null,"stream":null,"stream_options":null,"max_tokens":null,"n":null,"temperature":null,"top_p":null,"tools":null,"response_format":null,"user":null,"metadata":null,"usage":null}`},
		{"10.0 for an integer", `{` + hi + `,"max_tokens":10.0}`},
		{"64 levels", `{` + hi + `,"x":` + deep + `}`},
		{"unknown fields and roles", `{"x":{"y":[true,false,null]},"messages":[{"role":"wizard","content":7}]}`},
		{"other alphabets", `{"messages":[{"role":"user","content":"žluťoučký 日本語 🎉 \u65e5\ud83d"}],"名":1}`},
	} {
		t.Run(c.name, func(t *testing.T) { parse(t, c.body) })
	}
}

func TestForReturnsTheSameRequestWhenNothingChanges(t *testing.T) {
	r := parse(t, `{"model":"m","max_tokens":5,"stream":true,"stream_options":{"include_usage":true},`+hi+`}`)
	if got := r.For(Edit{Model: "m", MaxTokens: 5, AskUsage: true}); got != r {
		t.Errorf("got another request: %s", got.Body)
	}
}

func TestFor(t *testing.T) {
	for _, c := range []struct {
		name, body string
		edit       Edit
		want       string
	}{
		{"the model changes in its place", `{ "model" : "auto" , ` + hi + ` }`, Edit{Model: `a"b`}, `{ "model" : "a\"b" , ` + hi + ` }`},
		{"a missing model comes last", `{` + hi + `}`, Edit{Model: "m"}, `{` + hi + `,"model":"m"}`},
		{"an escaped name is found", `{"mo\u0064el":"auto",` + hi + `}`, Edit{Model: "m"}, `{"mo\u0064el":"m",` + hi + `}`},
		{"usage is asked for", `{"stream":true,` + hi + `}`, Edit{AskUsage: true}, `{"stream":true,` + hi + `,"stream_options":{"include_usage":true}}`},
		{"usage is not asked for without a stream", `{` + hi + `}`, Edit{AskUsage: true}, `{` + hi + `}`},
		{"options keep their others", `{"stream":true,"stream_options":{"x":1},` + hi + `}`, Edit{AskUsage: true}, `{"stream":true,"stream_options":{"include_usage":true,"x":1},` + hi + `}`},
		{"a no to usage is overruled", `{"stream":true,"stream_options":{"x":1,"include_usage": false},` + hi + `}`, Edit{AskUsage: true}, `{"stream":true,"stream_options":{"x":1,"include_usage": true},` + hi + `}`},
		{"empty and null options", `{"stream":true,"stream_options":{ },` + hi + `}`, Edit{AskUsage: true}, `{"stream":true,"stream_options":{"include_usage":true},` + hi + `}`},
		{"options go", `{"stream_options":{"x":1},` + hi + `}`, Edit{NoStreamOptions: true}, `{` + hi + `}`},
		{"the usage field goes", `{"a":1, "usage":{"include":true}, ` + hi + `}`, Edit{}, `{"a":1, ` + hi + `}`},
		{"the usage field goes from the end", `{` + hi + ` ,"usage":{"include":true} }`, Edit{}, `{` + hi + ` }`},
		{"the usage field stays", `{"usage":{"include":true},` + hi + `}`, Edit{KeepUsageField: true}, `{"usage":{"include":true},` + hi + `}`},
		{"the limit goes into the client's field", `{"max_tokens":99,` + hi + `}`, Edit{MaxTokens: 7, LimitField: "max_completion_tokens", LimitEither: true}, `{"max_tokens":7,` + hi + `}`},
		{"and into the one the upstream reads", `{"max_completion_tokens":99,` + hi + `}`, Edit{MaxTokens: 7, LimitField: "max_tokens"}, `{"max_completion_tokens":7,` + hi + `,"max_tokens":7}`},
		{"the client's own limit, too", `{"max_completion_tokens":99,` + hi + `}`, Edit{LimitField: "max_tokens"}, `{"max_completion_tokens":99,` + hi + `,"max_tokens":99}`},
		{"no limit, no field", `{` + hi + `}`, Edit{LimitField: "max_tokens"}, `{` + hi + `}`},
		{"one field alone", `{"max_tokens":99,` + hi + `}`, Edit{LimitField: "max_completion_tokens", LimitAlone: true}, `{` + hi + `,"max_completion_tokens":99}`},
		{"one field alone of two", `{"max_tokens":9,"max_completion_tokens":9,` + hi + `}`, Edit{LimitField: "max_completion_tokens", LimitAlone: true}, `{"max_completion_tokens":9,` + hi + `}`},
		{"an operator's limit in the field that is read", `{` + hi + `}`, Edit{LimitField: "max_completion_tokens", LimitAlone: true, Set: map[string]string{"max_tokens": "9"}}, `{` + hi + `,"max_completion_tokens":9}`},
		{"dropped fields", `{"store":false,` + hi + `,"x":1}`, Edit{Drop: []string{"store", "y"}}, `{` + hi + `,"x":1}`},
		{"metadata of ours goes", `{"metadata":{"user_id":"u","budget_usd":1},` + hi + `}`, Edit{}, `{` + hi + `}`},
		{"the rest of the metadata stays", `{"metadata":{"a":"b" , "us\u0065r_id":"u","c":"d"},` + hi + `}`, Edit{}, `{"metadata":{"a":"b","c":"d"},` + hi + `}`},
		{"metadata of the client's own", `{"metadata":{ "a":"b" },` + hi + `}`, Edit{}, `{"metadata":{ "a":"b" },` + hi + `}`},
		{"both limits change", `{"max_tokens":99,"max_completion_tokens":50,` + hi + `}`, Edit{MaxTokens: 7}, `{"max_tokens":7,"max_completion_tokens":7,` + hi + `}`},
		{"two limits that differ are made one", `{"max_tokens":99,"max_completion_tokens":50,` + hi + `}`, Edit{}, `{"max_tokens":50,"max_completion_tokens":50,` + hi + `}`},
		{"a new limit", `{` + hi + `}`, Edit{MaxTokens: 7, LimitField: "max_completion_tokens"}, `{` + hi + `,"max_completion_tokens":7}`},
		{"set and default", `{"temperature":1,"seed":null,` + hi + `}`, Edit{Set: map[string]string{"temperature": "0.5", "top_k": "3"}, Default: map[string]string{"seed": "1", "temperature": "2", "stop": `["x"]`}},
			`{"temperature":0.5,"seed":1,` + hi + `,"top_k":3,"stop":["x"]}`},
		{"the operator's limit replaces the client's", `{"max_completion_tokens":50,` + hi + `}`, Edit{Set: map[string]string{"max_tokens": "9"}}, `{"max_completion_tokens":9,` + hi + `}`},
		{"the reserved limit goes first", `{` + hi + `}`, Edit{MaxTokens: 5, Set: map[string]string{"max_tokens": "9"}}, `{` + hi + `,"max_tokens":5}`},
		{"broken JSON is not set", `{` + hi + `}`, Edit{Set: map[string]string{"x": `{`}}, `{` + hi + `}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := parse(t, c.body)
			v := r.For(c.edit)
			if got := string(v.Body); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if string(r.Body) != c.body {
				t.Errorf("the client's own body changed: %s", r.Body)
			}
			sameFacts(t, v)
		})
	}
}

// sameFacts checks that a spliced request knows what a fresh look at its body
// would tell.
func sameFacts(t *testing.T, v *Request) {
	t.Helper()
	fresh, err := ParseRequest(v.Body)
	if err != nil {
		t.Fatalf("the spliced body is refused: %v\n%s", err, v.Body)
	}
	if v.Model != fresh.Model || v.MaxTokens != fresh.MaxTokens || v.N != fresh.N || v.Stream != fresh.Stream || v.Prompt() != fresh.Prompt() {
		t.Errorf("facts %+v differ from the body's %+v", v, fresh)
	}
	if len(v.members) != len(fresh.members) {
		t.Fatalf("%d members, want %d", len(v.members), len(fresh.members))
	}
	for i := range v.members {
		if v.members[i] != fresh.members[i] {
			t.Errorf("member %d is at %+v, want %+v", i, v.members[i], fresh.members[i])
		}
	}
}

func TestForKeepsWhatTheClientWantsToSee(t *testing.T) {
	r := parse(t, `{"stream":true,"usage":{"include":true},`+hi+`}`)
	v := r.For(Edit{Model: "m", MaxTokens: 3, AskUsage: true})
	if v.IncludeUsage || !v.IncludeCost || v.Model != "m" || v.MaxTokens != 3 || r.Model != "" {
		t.Errorf("got %+v", v)
	}
}

func TestParseRequestAllocatesLittleForAmplifyingBodies(t *testing.T) {
	const size = 3 << 20
	for name, body := range map[string]string{
		"empty arrays":      `{` + hi + `,"x":[` + strings.Repeat("[],", size/3) + `[]]}`,
		"empty objects":     `{` + hi + `,"tools":[` + strings.Repeat("{},", 500) + `{}],"x":[` + strings.Repeat("{},", size/3) + `0]}`,
		"very many members": `{` + strings.Repeat(`"":0,`, size/5) + hi + `}`,
		"many escapes":      `{"messages":[{"role":"user","content":"` + strings.Repeat(`\n`, size/2) + `"}]}`,
		"one long key":      `{` + hi + `,"` + strings.Repeat("x", size) + `":1,"y":"` + strings.Repeat("é\\u0041", 1000) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			b := []byte(body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = ParseRequest(b)
			runtime.ReadMemStats(&after)
			got := after.TotalAlloc - before.TotalAlloc
			if got > uint64(len(b))*11/10 {
				t.Errorf("%d bytes allocated for a body of %d", got, len(b))
			}
		})
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{
		`{` + hi + `}`, `{"model":"a","model":"b"}`, `{"messages":[{"role":"user","content":[{"type":"text","text":"\ud83d\ude00"}]}],"max_tokens":1e3}`,
		`{"stream":true,"stream_options":{"include_usage":false},"usage":{"include":true},"messages":[{}],"x":[1,-0.5E+7,null]}`,
	} {
		f.Add([]byte(s), "m", int64(5))
	}
	f.Fuzz(func(t *testing.T, body []byte, model string, limit int64) {
		r, err := ParseRequest(body)
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got a %T", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatal("accepted what encoding/json does not")
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatal(err)
		}
		if len(members) != len(r.members) {
			t.Fatalf("%d members, want %d", len(r.members), len(members))
		}
		for name, raw := range members {
			if !bytes.Equal(r.Raw(name), raw) {
				t.Fatalf("Raw(%q) = %q, want %q", name, r.Raw(name), raw)
			}
		}
		if limit < 1 || limit > 1<<31-1 {
			limit = 0
		}
		v := r.For(Edit{Model: model, MaxTokens: limit, AskUsage: true, Set: map[string]string{"seed": "1"}, Default: map[string]string{"stop": "[]"}})
		sameFacts(t, v)
		sameFacts(t, v.For(Edit{NoStreamOptions: true, KeepUsageField: true}))
	})
}

// conversation is a request of about size bytes, of turns like people's.
func conversation(size int) []byte {
	line := "Explain the trade-offs between B-trees and LSM trees, \\\"in detail\\\", for a write-heavy load.\\n"
	var b bytes.Buffer
	b.WriteString(`{"model":"auto","stream":true,"temperature":0.7,"max_tokens":512,"user":"somebody","messages":[{"role":"system","content":"You are brief."}`)
	for i := 0; b.Len() < size-200; i++ {
		n := min(30, max(1, (size-b.Len()-200)/len(line)))
		fmt.Fprintf(&b, `,{"role":%q,"content":"%s"}`, []string{"user", "assistant"}[i%2], strings.Repeat(line, n))
	}
	b.WriteString(`,{"role":"user","content":"And what would you choose?"}]}`)
	return b.Bytes()
}

func BenchmarkParseRequest(b *testing.B) {
	for _, size := range []int{1 << 10, 10 << 10, 100 << 10} {
		body := conversation(size)
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseRequest(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFor(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10} {
		r, err := ParseRequest(conversation(size))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.For(Edit{Model: "gpt-5", AskUsage: true})
			}
		})
	}
}
