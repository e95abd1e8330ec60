package translate

import (
	"encoding/json"
	"testing"

	"github.com/inference-router/inference-router/internal/rawjson"
)

func TestAppendWithCost(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"after the counts", `{"choices":[],"usage":{"prompt_tokens":1 },"x":1}`, `{"choices":[],"usage":{"prompt_tokens":1 ,"cost":0.5},"x":1}`},
		{"in an empty object", `{"usage":{}}`, `{"usage":{"cost":0.5}}`},
		{"in the place of the upstream's own", `{"usage":{"cost":7,"a":{}}}`, `{"usage":{"cost":0.5,"a":{}}}`},
		{"no usage", `{"choices":[{"usage":{}}]}`, `{"choices":[{"usage":{}}]}`},
		{"null usage", `{"usage":null}`, `{"usage":null}`},
		{"no object", `[]`, `[]`},
		{"broken", `{"usage":{"a"`, `{"usage":{"a"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(AppendWithCost([]byte("data: "), []byte(c.data), "0.5")); got != "data: "+c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func FuzzAppendWithCost(f *testing.F) {
	f.Add(`{"usage":{"a":1}}`)
	f.Fuzz(func(t *testing.T, data string) {
		if got := AppendWithCost(nil, []byte(data), "0.5"); rawjson.Valid(string(data), maxRequestDepth) && !json.Valid(got) {
			t.Fatalf("%s became %s", data, got)
		}
	})
}
