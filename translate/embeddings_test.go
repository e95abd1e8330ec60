package translate

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// A file holds a model, a client's request and the answers of the calls it
// makes; its golden file holds these calls and the answer to the client.
func TestBedrockEmbeddingsGolden(t *testing.T) {
	files, _ := filepath.Glob("testdata/embeddings/*.json")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			golden(t, strings.TrimSuffix(file, ".json")+".golden", bedrockEmbedding(t, file))
		})
	}
}

func bedrockEmbedding(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	script := gjson.ParseBytes(data)
	r := parseEmbedding(t, script.Get("request").Raw)
	d, err := BedrockEmbedding(script.Get("model").Str)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := d.Calls(r, "")
	if err != nil {
		t.Fatal(err)
	}
	answers := script.Get("answers").Array()
	if len(answers) != len(calls) {
		t.Fatalf("%d calls, %d answers", len(calls), len(answers))
	}
	var out []byte
	var parts []*EmbeddingPart
	for i, call := range calls {
		out = append(append(out, call.Body...), '\n')
		part, err := d.ReadPart([]byte(answers[i].Get("body").Raw), answers[i].Get("tokens").Str, call.Count)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part)
	}
	answer := JoinEmbeddings(r, r.Model, parts)
	if !json.Valid(answer.Body) {
		t.Errorf("the answer is not JSON: %s", answer.Body)
	}
	return append(append(out, answer.Body...), '\n')
}

func parseEmbedding(t testing.TB, body string) *EmbeddingRequest {
	t.Helper()
	r, err := ParseEmbedding([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseEmbeddingReadsTheFacts(t *testing.T) {
	r := parseEmbedding(t, ` {"model":"m","input":["é","b"],"encoding_format":null,"dimensions":10.0,"user":"u",`+
		`"safety_identifier":"s","metadata":{"user_id":"mu","budget_usd":0.50},"input_type":"query","x":{"y":1}}`)
	got := fmt.Sprint(r.Model, r.Texts, r.Tokens, r.Inputs, r.Base64, r.Dimensions, r.InputType, r.InputBytes,
		r.User, r.SafetyIdentifier, r.MetadataUser, r.MetadataBudget)
	want := fmt.Sprint("m", []string{"é", "b"}, false, 2, false, 10, "query", 2+1+2*embeddingOverhead, "u", "s", "mu", "0.50")
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	tokens := parseEmbedding(t, `{"input":[[1,2,3],[4]],"encoding_format":"base64"}`)
	if !tokens.Tokens || tokens.Inputs != 2 || tokens.InputBytes != 4+2*embeddingOverhead || !tokens.Base64 || tokens.Texts != nil {
		t.Errorf("token ids: got %+v", tokens)
	}
	if one := parseEmbedding(t, `{"input":[1,2,3]}`); one.Inputs != 1 || !one.Tokens {
		t.Errorf("one array of token ids: got %d inputs, want 1", one.Inputs)
	}
}

func TestParseEmbeddingRefuses(t *testing.T) {
	many := strings.Repeat(`"a",`, maxEmbeddingInputs) + `"a"`
	for name, tt := range map[string]struct{ body, param string }{
		"broken JSON":                        {`{"input":`, ""},
		"brackets without end":               {strings.Repeat("[", 1<<20), ""},
		"an array":                           {`["a"]`, ""},
		"text after the object":              {`{"input":"a"} x`, ""},
		"no input":                           {`{"model":"m"}`, "input"},
		"null input":                         {`{"input":null}`, "input"},
		"empty input":                        {`{"input":""}`, "input"},
		"an empty array":                     {`{"input":[]}`, "input"},
		"an empty string in an array":        {`{"input":["a",""]}`, "input[1]"},
		"a number after a string":            {`{"input":["a",1]}`, "input[1]"},
		"a string after a token":             {`{"input":[1,"a"]}`, "input[1]"},
		"a negative token":                   {`{"input":[-1]}`, "input[0]"},
		"a fraction for a token":             {`{"input":[[1.5]]}`, "input[0][0]"},
		"an empty array of tokens":           {`{"input":[[1],[]]}`, "input[1]"},
		"a string after tokens":              {`{"input":[[1],"a"]}`, "input[1]"},
		"an object":                          {`{"input":{"text":"a"}}`, "input"},
		"more than 2048 inputs":              {`{"input":[` + many + `]}`, "input"},
		"an unknown encoding":                {`{"input":"a","encoding_format":"int8"}`, "encoding_format"},
		"zero dimensions":                    {`{"input":"a","dimensions":0}`, "dimensions"},
		"dimensions as a string":             {`{"input":"a","dimensions":"256"}`, "dimensions"},
		"a model that is no string":          {`{"input":"a","model":1}`, "model"},
		"a user that is no string":           {`{"input":"a","user":1}`, "user"},
		"metadata that is no object":         {`{"input":"a","metadata":1}`, "metadata"},
		"two models":                         {`{"input":"a","model":"m","model":"n"}`, "model"},
		"two models, one escaped":            {`{"input":"a","model":"m","mod\u0065l":"n"}`, "model"},
		"names that differ in case":          {`{"input":"a","x":1,"X":2}`, "X"},
		"a known name in another case":       {`{"Input":"a"}`, "Input"},
		"a known name in a foreign letter":   {"{\"u\u017fer\":\"a\",\"input\":\"a\"}", "u\u017fer"},
		"two users in the metadata":          {`{"input":"a","metadata":{"user_id":"a","user_id":"b"}}`, "metadata.user_id"},
		"a user in the metadata that is not": {`{"input":"a","metadata":{"user_id":7}}`, "metadata.user_id"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseEmbedding([]byte(tt.body))
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, want an *InvalidError", err)
			}
			if invalid.Param != tt.param {
				t.Errorf("got param %q (%s), want %q", invalid.Param, invalid.Message, tt.param)
			}
		})
	}
}

func TestBodyForReplacesNothingButTheModel(t *testing.T) {
	for name, tt := range map[string]struct{ body, want string }{
		"in the middle":   {" {\"input\" : \"a\",\n\"model\": \"x\" , \"n\":1.0} ", " {\"input\" : \"a\",\n\"model\": \"a\\\"b\" , \"n\":1.0} "},
		"null":            {`{"model":null,"input":"a"}`, `{"model":"a\"b","input":"a"}`},
		"absent":          {` {"input":"a"}`, ` {"model":"a\"b","input":"a"}`},
		"an escaped name": {`{"mod\u0065l":"m","input":"a"}`, `{"mod\u0065l":"a\"b","input":"a"}`},
		"a nested model":  {`{"x":{"model":"y"},"model":"m","input":"a"}`, `{"x":{"model":"y"},"model":"a\"b","input":"a"}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(parseEmbedding(t, tt.body).BodyFor(`a"b`)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestEmbeddingCallsRefuse(t *testing.T) {
	for name, tt := range map[string]struct{ model, body, param string }{
		"dimensions Titan v2 has not":   {"amazon.titan-embed-text-v2:0", `{"input":"a","dimensions":384}`, "dimensions"},
		"other dimensions of Titan v1":  {"amazon.titan-embed-text-v1", `{"input":"a","dimensions":256}`, "dimensions"},
		"other dimensions of Cohere v3": {"cohere.embed-multilingual-v3", `{"input":"a","dimensions":512}`, "dimensions"},
		"token ids":                     {"cohere.embed-v4:0", `{"input":[1,2]}`, "input"},
		"an unknown input type":         {"cohere.embed-v4:0", `{"input":"a","input_type":"poem"}`, "input_type"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := BedrockEmbedding(tt.model)
			if err != nil {
				t.Fatal(err)
			}
			_, err = d.Calls(parseEmbedding(t, tt.body), "")
			var invalid *InvalidError
			if !errors.As(err, &invalid) || invalid.Param != tt.param {
				t.Errorf("got %v, want an *InvalidError for %s", err, tt.param)
			}
		})
	}
}

func TestCohereCallsHoldNinetySixTexts(t *testing.T) {
	texts := make([]string, 200)
	for i := range texts {
		texts[i] = "text " + strconv.Itoa(i)
	}
	input, _ := json.Marshal(texts)
	d, err := BedrockEmbedding("cohere.embed-v4:0")
	if err != nil {
		t.Fatal(err)
	}
	calls, err := d.Calls(parseEmbedding(t, `{"input":`+string(input)+`}`), "clustering")
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for i, want := range []int{96, 96, 8} {
		sent := gjson.GetBytes(calls[i].Body, "texts").Array()
		if len(sent) != want || calls[i].Count != want {
			t.Errorf("call %d: got %d texts, want %d", i, len(sent), want)
		}
		for _, s := range sent {
			if s.Str != texts[next] {
				t.Fatalf("text %d: got %q, want %q", next, s.Str, texts[next])
			}
			next++
		}
		if got := gjson.GetBytes(calls[i].Body, "input_type").Str; got != "clustering" {
			t.Errorf("call %d: got input_type %q, want the configured default", i, got)
		}
	}
}

func TestReadPartRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		model, body string
		count       int
	}{
		"what is not JSON":            {"amazon.titan-embed-text-v1", `<html>`, 1},
		"no embedding":                {"amazon.titan-embed-text-v1", `{"inputTextTokenCount":1}`, 1},
		"an empty vector":             {"amazon.titan-embed-text-v1", `{"embedding":[]}`, 1},
		"a string in a vector":        {"amazon.titan-embed-text-v1", `{"embedding":[1,"2"]}`, 1},
		"a string with a comma":       {"amazon.titan-embed-text-v1", `{"embedding":["1,2"]}`, 1},
		"a null in a vector":          {"amazon.titan-embed-text-v1", `{"embedding":[null]}`, 1},
		"a vector in a vector":        {"amazon.titan-embed-text-v1", `{"embedding":[[1]]}`, 1},
		"a number beyond float32":     {"amazon.titan-embed-text-v1", `{"embedding":[1e39]}`, 1},
		"fewer vectors than texts":    {"cohere.embed-v4:0", `{"embeddings":[[1]]}`, 2},
		"vectors of another type":     {"cohere.embed-v4:0", `{"embeddings":{"int8":[[1]]}}`, 1},
		"a number instead of vectors": {"cohere.embed-v4:0", `{"embeddings":{"float":[1]}}`, 1},
		"an empty list":               {"amazon.nova-2-multimodal-embeddings-v1:0", `{"embeddings":[]}`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := BedrockEmbedding(tt.model)
			if err != nil {
				t.Fatal(err)
			}
			if part, err := d.ReadPart([]byte(tt.body), "1", tt.count); err == nil {
				t.Errorf("got %v, want an error", part)
			}
		})
	}
}

func TestBedrockEmbeddingRefusesUnknownModels(t *testing.T) {
	for _, model := range []string{"", "amazon.nova-pro-v1:0", "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"} {
		if _, err := BedrockEmbedding(model); err == nil {
			t.Errorf("%q: got no error", model)
		}
	}
}

func TestFloat32IsWrittenShortest(t *testing.T) {
	for want, f := range map[string]float32{
		"0.1": float32(0.10000000149011612), "0": 0, "1": 1, "-0.0033": -0.0033, "16777216": 16777217,
		"1e-07": 1e-7, "0.000001": 1e-6, "3.4028235e+38": math.MaxFloat32, "1e-45": math.SmallestNonzeroFloat32,
	} {
		got := string(appendFloat32(nil, f))
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%s is not JSON", got)
		}
	}
}

// The official Python and Node clients ask for base64 unless told otherwise.
func TestBase64HoldsTheSameFloatsLittleEndian(t *testing.T) {
	vector := []float32{0.1, -2.5, 1e-30, 0}
	quoted := appendVector(nil, vector, true)
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(string(quoted), `"`))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range vector {
		if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])); got != want {
			t.Errorf("float %d: got %v, want %v", i, got, want)
		}
	}
}

func TestFromOpenAIEmbeddingReadsTheUsage(t *testing.T) {
	for body, want := range map[string]int64{
		`{"data":[],"usage":{"prompt_tokens":12,"total_tokens":12}}`: 12,
		`{"data":[],"usage":{"prompt_tokens":0}}`:                    0,
		`{"data":[],"usage":{"prompt_tokens":-1}}`:                   -1,
		`{"data":[],"usage":{"prompt_tokens":"3"}}`:                  -1,
		`{"data":[],"usage":null}`:                                   -1,
		`{"data":[]}`:                                                -1,
	} {
		answer, err := FromOpenAIEmbedding([]byte(body), "req")
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		got := int64(-1)
		if answer.Usage != nil {
			got = answer.Usage.InputTokens
		}
		if got != want || string(answer.Body) != body || answer.RequestID != "req" {
			t.Errorf("%s: got %d tokens in %+v, want %d (-1: none)", body, got, answer, want)
		}
	}
	for _, body := range []string{``, `<html>`, `[]`, `{}`, `{"data":{}}`, `{"error":"x"}`} {
		var failed *UpstreamError
		if _, err := FromOpenAIEmbedding([]byte(body), ""); !errors.As(err, &failed) || failed.Kind != KindBadResponse {
			t.Errorf("%q: got %v, want a bad response", body, err)
		}
	}
}

func FuzzParseEmbedding(f *testing.F) {
	f.Add([]byte(` {"model":"m","input":["a","b"],"dimensions":256,"encoding_format":"base64"} `))
	f.Add([]byte(`{"input":[[1,2],[3]],"metadata":{"user_id":"u","budget_usd":"1"}}`))
	f.Add([]byte(`{"mod\u0065l":null,"input":"a"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseEmbedding(body)
		if err != nil {
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %T, want *InvalidError", err)
			}
			return
		}
		spliced := r.BodyFor("other")
		again, err := ParseEmbedding(spliced)
		if err != nil {
			t.Fatalf("%s became %s: %v", body, spliced, err)
		}
		if again.Model != "other" || again.Inputs != r.Inputs || again.InputBytes != r.InputBytes {
			t.Fatalf("%s became %s", body, spliced)
		}
	})
}

func FuzzReadPart(f *testing.F) {
	f.Add(0, []byte(`{"embedding":[0.1,-2e-3],"inputTextTokenCount":3}`), "")
	f.Add(4, []byte(`{"embeddings":{"float":[[1]]}}`), "7")
	f.Add(7, []byte(`{"embeddings":[{"embedding":[1]}]}`), "-1")
	f.Fuzz(func(t *testing.T, which int, body []byte, header string) {
		d := &embeddingDialects[uint(which)%uint(len(embeddingDialects))].dialect
		part, err := d.ReadPart(body, header, 1)
		if err != nil {
			return
		}
		for _, inBase64 := range []bool{false, true} {
			answer := JoinEmbeddings(&EmbeddingRequest{Base64: inBase64}, "m", []*EmbeddingPart{part})
			if !json.Valid(answer.Body) {
				t.Fatalf("not JSON: %s", answer.Body)
			}
		}
	})
}

func BenchmarkEmbeddingAnswer(b *testing.B) {
	numbers := strings.Repeat("-0.012345679,", 1023) + "0.5"
	body := []byte(`{"embedding":[` + numbers + `],"inputTextTokenCount":3}`)
	d, err := BedrockEmbedding("amazon.titan-embed-text-v2:0")
	if err != nil {
		b.Fatal(err)
	}
	for _, format := range []string{"float", "base64"} {
		b.Run(format, func(b *testing.B) {
			r := &EmbeddingRequest{Base64: format == "base64"}
			b.ReportAllocs()
			for b.Loop() {
				part, err := d.ReadPart(body, "", 1)
				if err != nil {
					b.Fatal(err)
				}
				JoinEmbeddings(r, "m", []*EmbeddingPart{part})
			}
		})
	}
}
