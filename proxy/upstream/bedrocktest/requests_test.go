package bedrocktest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
)

// TestBedrockWouldTakeEveryTranslatedRequest holds the golden requests of the
// translation against AWS's own model and known rules.
func TestBedrockWouldTakeEveryTranslatedRequest(t *testing.T) {
	files, err := filepath.Glob("../../../translate/testdata/bedrock/*.requests")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	n := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := ""
		for line := range strings.Lines(string(data)) {
			if title, ok := strings.CutPrefix(line, "# "); ok {
				name = strings.TrimSpace(title)
				continue
			}
			n++
			if err := bedrocktest.CheckConverse([]byte(line), strings.HasSuffix(name, " (streamed)")); err != nil {
				t.Errorf("%s: %s: %v in %s", filepath.Base(file), name, err, line)
			}
		}
	}
	if n < 200 {
		t.Errorf("got %d requests, want all of them", n)
	}
}
