package bedrocktest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
)

// TestTheJavaScriptSDKReadsTheFake checks the fake by a second implementation
// of the protocol. It wants "npm install" to have been run in node/.
func TestTheJavaScriptSDKReadsTheFake(t *testing.T) {
	_, err := os.Stat("node/node_modules/@aws-sdk/client-bedrock-runtime")
	if err == nil {
		_, err = exec.LookPath("node")
	}
	if err != nil {
		if os.Getenv("REQUIRE_ALL") == "1" {
			t.Fatalf("REQUIRE_ALL=1, but the SDK is not there (npm install in proxy/upstream/bedrocktest/node): %v", err)
		}
		t.Skip("no npm packages in node/; run npm install there")
	}
	s := bedrocktest.New(t)
	out, err := exec.CommandContext(t.Context(), "node", "node/check.mjs", s.URL, bedrocktest.AccessKey, bedrocktest.SecretKey).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "ok") {
		t.Errorf("got %v: %s", err, out)
	}
}
