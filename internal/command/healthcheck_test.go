package command

import (
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/internal/testkit"
)

func TestHealthcheckAsksTheListener(t *testing.T) {
	status := http.StatusOK
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
	})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	for _, l := range []net.Listener{tcp, unix} {
		go server.Serve(l)
	}
	for _, address := range []string{tcp.Addr().String(), "unix:" + socket} {
		file := inFile(t, testkit.Minimal+"server: {listen: '"+address+"'}\n")
		status = http.StatusOK
		if code, _, errOut := runCommand(t, "healthcheck", "-config", file); code != 0 {
			t.Errorf("%s is alive: exit code %d, %s", address, code, errOut)
		}
		status = http.StatusInternalServerError
		if code, _, errOut := runCommand(t, "healthcheck", "-config", file); code != 1 || !strings.Contains(errOut, "500") {
			t.Errorf("%s is ill: exit code %d, %s", address, code, errOut)
		}
	}
	server.Close()
	file := inFile(t, testkit.Minimal+"server: {listen: '"+tcp.Addr().String()+"'}\n")
	if code, _, errOut := runCommand(t, "healthcheck", "-config", file); code != 1 || !strings.Contains(errOut, "does not answer") {
		t.Errorf("nobody listens: exit code %d, %s", code, errOut)
	}
}
