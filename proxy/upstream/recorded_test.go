package upstream

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/translate"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// told writes down all that an answer tells, a line each.
func told(stream []byte, size int) string {
	var out strings.Builder
	var usage translate.Usage
	var output int64
	finish := ""
	events := readEvents(&sliced{rest: stream, size: size})
	for c, err := range translate.FromOpenAI(events, translate.OpenAIOptions{HideUsage: true}) {
		switch {
		case err != nil:
			fmt.Fprintf(&out, "error: %v\n", err)
		case c.Comment:
			fmt.Fprintf(&out, ": %s\n", c.Data)
		case len(c.Data) > 0:
			fmt.Fprintf(&out, "%s\n", c.Data)
		}
		output += c.OutputBytes
		if c.Usage != nil {
			usage = *c.Usage
		}
		if c.Finish != "" {
			finish = c.Finish
		}
	}
	fmt.Fprintf(&out, "%+v, finish %s, %d bytes of output\n", usage, finish, output)
	return out.String()
}

// The streams are in the shape that each provider sends.
func TestProvidersStreamsHoweverTheyAreSplit(t *testing.T) {
	files, err := filepath.Glob("testdata/openai/*.sse")
	if err != nil || len(files) == 0 {
		t.Fatalf("no streams to test: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			stream, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".sse") + ".golden"
			whole := told(stream, len(stream))
			if *update {
				if err := os.WriteFile(golden, []byte(whole), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if whole != string(want) {
				t.Errorf("got\n%s\nwant\n%s", whole, want)
			}
			for size := 1; size < len(stream); size++ {
				if got := told(stream, size); got != whole {
					t.Fatalf("in slices of %d: got\n%s\nwant\n%s", size, got, whole)
				}
			}
		})
	}
}
