package translate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// A file holds named cases: a model, what the operator set, and a client's
// request. Its golden file holds the Messages call of each, what was dropped,
// or the refusal.
func TestToAnthropicGolden(t *testing.T) {
	files, _ := filepath.Glob("testdata/anthropic/*.requests.json")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".requests.json")
		t.Run(name, func(t *testing.T) {
			var out []byte
			for _, c := range anthropicCases(t, file) {
				out = fmt.Appendf(out, "# %s\n%s\n", c.Get("name").Str, anthropicCall(t, c))
			}
			golden(t, strings.TrimSuffix(file, ".requests.json")+".requests.golden", out)
		})
	}
}

func anthropicCases(t testing.TB, file string) []gjson.Result {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !gjson.ValidBytes(data) {
		t.Fatalf("%s is not JSON", file)
	}
	return gjson.ParseBytes(data).Array()
}

func anthropicCall(t *testing.T, c gjson.Result) string {
	t.Helper()
	r, o, err := anthropicCase(c)
	if err != nil {
		return refusalText(t, err)
	}
	before := string(r.Body)
	q, err := ToAnthropic(r, o)
	if string(r.Body) != before {
		t.Errorf("%s: the request was changed", c.Get("name").Str)
	}
	if err != nil {
		return refusalText(t, err)
	}
	if !gjson.ValidBytes(q.Body) {
		t.Errorf("%s: not JSON: %s", c.Get("name").Str, q.Body)
	}
	text := string(q.Body)
	if len(q.Dropped) > 0 {
		text += "\ndropped: " + strings.Join(q.Dropped, ", ")
	}
	return text
}

func anthropicCase(c gjson.Result) (*Request, AnthropicOptions, error) {
	model := c.Get("model").Str
	o := AnthropicOptions{
		Options:      Options{Unsupported: c.Get("options.unsupported").Str},
		Capabilities: LookupCapabilities("anthropic", model),
		MaxTokens:    c.Get("options.max_tokens").Int(),
	}
	r, err := ParseRequest([]byte(c.Get("request").Raw))
	if err != nil {
		return nil, o, err
	}
	return r.For(Edit{Model: model}), o, nil
}

func refusalText(t *testing.T, err error) string {
	t.Helper()
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v, want an *InvalidError", err)
	}
	return fmt.Sprintf("refused: %s (param %q, code %q)", invalid.Message, invalid.Param, invalid.Code)
}
