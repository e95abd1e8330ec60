package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// compileFile runs the program over a data file in which every provider has
// the given models, and returns the table.
func compileFile(t *testing.T, models string) (string, error) {
	t.Helper()
	var list []string
	for _, id := range providers {
		list = append(list, `{"id":"`+id+`","models":[`+models+`]}`)
	}
	in, out := filepath.Join(t.TempDir(), "data.json"), filepath.Join(t.TempDir(), "prices.json")
	if err := os.WriteFile(in, []byte("["+strings.Join(list, ",")+"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(in, out, "2026-08-21"); err != nil {
		return "", err
	}
	table, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(table), nil
}

func TestRun(t *testing.T) {
	const match = `"match":{"or":[{"equals":"M"},{"starts_with":"M-"}]}`
	for _, tt := range []struct{ name, model, want string }{
		{"a plain price", `{"id":"m",` + match + `,"context_window":1000,"prices":{"input_mtok":1.5,"output_mtok":2}}`,
			`{"id":"m","equals":["m"],"match":[{"starts_with":"m-"}],"context":1000,"input":1.5,"output":2}`},
		{"caches", `{"id":"m","match":{"contains":"m"},"prices":{"input_mtok":1,"output_mtok":2,"cache_read_mtok":0.1,"cache_write_mtok":1.25}}`,
			`{"id":"m","match":[{"contains":"m"}],"input":1,"output":2,"cached_input":0.1,"cache_write":1.25}`},
		{"digits beyond the ninth place are rounded up", `{"id":"m",` + match + `,"prices":{"input_mtok":0.08333333333333334,"output_mtok":2}}`,
			`"input":0.083333334,"output":2}`},
		{"a step, with a rate that has none", `{"id":"m",` + match + `,"prices":{"input_mtok":{"base":1,"tiers":[{"start":200000,"price":2}]},"cache_read_mtok":0.1,"output_mtok":4}}`,
			`"input":1,"output":4,"cached_input":0.1,"steps":[{"above":200000,"input":2,"output":4,"cached_input":0.1}]}`},
		{"steps at different sizes", `{"id":"m",` + match + `,"prices":{"input_mtok":{"base":1,"tiers":[{"start":10,"price":2},{"start":30,"price":3}]},"output_mtok":{"base":4,"tiers":[{"start":20,"price":5}]}}}`,
			`"input":1,"output":4,"steps":[{"above":10,"input":2,"output":4},{"above":20,"input":2,"output":5},{"above":30,"input":3,"output":5}]}`},
		{"calls, audio and an hour's cache", `{"id":"m",` + match + `,"prices":{"input_mtok":1,"output_mtok":2,"input_audio_mtok":4,"output_audio_mtok":8,"cache_audio_read_mtok":0.5,"cache_write_1h_mtok":2,"web_searches_kcount":10,"requests_kcount":12}}`,
			`"input":1,"output":2,"cache_write_1h":2,"audio_input":4,"audio_output":8,"cached_audio":0.5,"per_search":0.01,"per_request":0.012}`},
		{"a service tier on top of the plain price, a batch left out", `{"id":"m",` + match + `,"prices":{"input_mtok":1,"output_mtok":2,"cache_read_mtok":0.1},"price_variants":[
			{"when":{"service_tier":"default"},"prices":{}},{"when":{"service_tier":"flex"},"prices":{"input_mtok":0.5}},{"when":{"speed":"fast"},"prices":{"output_mtok":6}},
			{"when":{"processing":"batch"},"prices":{"input_mtok":0.25}}]}`,
			`"input":1,"output":2,"cached_input":0.1,"tiers":{"fast":{"input":1,"output":6,"cached_input":0.1},"flex":{"input":0.5,"output":2,"cached_input":0.1}}}`},
		{"a service tier that begins later", `{"id":"m",` + match + `,"prices":{"input_mtok":1,"output_mtok":2},"price_variants":[{"when":{"service_tier":"flex"},"constraint":{"start_date":"2027-01-01"},"prices":{"input_mtok":0.5}}]}`,
			`"input":1,"output":2,"then":[{"from":"2027-01-01","input":1,"output":2,"tiers":{"flex":{"input":0.5,"output":2}}}]}`},
		{"what a name must not have", `{"id":"m","match":{"and":[{"starts_with":"m"},{"regex":"^(?!.*-[tT]$)"}]},"prices":{"input_mtok":1,"output_mtok":2}}`,
			`"match":[{"and":[{"starts_with":"m"},{"not":{"regex":"-[tt]$"}}]}]`},
		{"the list of the day and the changes to come", `{"id":"m",` + match + `,"prices":[{"prices":{"input_mtok":1,"output_mtok":1}},
			{"constraint":{"start_date":"2026-08-21"},"prices":{"input_mtok":2,"output_mtok":2}},
			{"constraint":{"start_date":"2026-09-01"},"prices":{"input_mtok":3,"output_mtok":3}}]}`,
			`"input":2,"output":2,"then":[{"from":"2026-09-01","input":3,"output":3}]}`},
		{"the dearest time of day", `{"id":"m",` + match + `,"prices":[{"prices":{"input_mtok":3,"output_mtok":1}},
			{"constraint":{"start_time":"00:30:00Z","end_time":"16:30:00Z"},"prices":{"input_mtok":2,"output_mtok":2}}]}`,
			`"input":3,"output":2}`},
		{"an embedding has no output", `{"id":"embed-m",` + match + `,"prices":{"input_mtok":1}}`, `"input":1,"output":0}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table, err := compileFile(t, tt.model)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(table, tt.want); got != len(providers) {
				t.Errorf("table has %s %d times, want %d:\n%s", tt.want, got, len(providers), table)
			}
		})
	}
}

func TestRunLeavesOut(t *testing.T) {
	for name, prices := range map[string]string{
		"no price of output":   `{"input_mtok":1}`,
		"no price of input":    `{"output_mtok":1}`,
		"free":                 `{"input_mtok":0,"output_mtok":0}`,
		"no price of anything": `{}`,
	} {
		t.Run(name, func(t *testing.T) {
			table, err := compileFile(t, `{"id":"m","match":{"equals":"m"},"prices":`+prices+`}`)
			if err != nil || strings.Contains(table, `"m"`) {
				t.Errorf("table has the model, or error %v:\n%s", err, table)
			}
		})
	}
}

func TestRunRefuses(t *testing.T) {
	for name, model := range map[string]string{
		"a negative price":        `{"id":"m","match":{"equals":"m"},"prices":{"input_mtok":-1,"output_mtok":1}}`,
		"a broken pattern":        `{"id":"m","match":{"regex":"("},"prices":{"input_mtok":1,"output_mtok":1}}`,
		"a pattern with capitals": `{"id":"m","match":{"regex":"\\D"},"prices":{"input_mtok":1,"output_mtok":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if table, err := compileFile(t, model); err == nil {
				t.Errorf("compiled to %s, want an error", table)
			}
		})
	}
}
