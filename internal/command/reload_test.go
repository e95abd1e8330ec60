package command

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/inference-router/inference-router/internal/testkit"
)

// reloading runs a reloader on the file. Each apply reports what the file
// held; a file that says "bad" is refused.
func reloading(t *testing.T, file string) (applied <-chan string, hangup chan<- os.Signal, logged func() string) {
	t.Helper()
	var log testkit.Buffer
	seen, signals := make(chan string, 10), make(chan os.Signal)
	r := &reloader{file: file, hangup: signals, log: slog.New(slog.NewTextHandler(&log, nil)), apply: func() error {
		src, err := os.ReadFile(file)
		seen <- string(src)
		if string(src) == "bad" {
			return errors.New("bad file")
		}
		return err
	}}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	// The first signal is taken when the watch is set up.
	signals <- syscall.SIGHUP
	<-seen
	return seen, signals, log.String
}

func wantApplied(t *testing.T, applied <-chan string, want string) {
	t.Helper()
	select {
	case got := <-applied:
		if got != want {
			t.Errorf("applied %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%q was not applied in 10 s", want)
	}
}

func TestReloadOnAChangedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	testkit.Write(t, file, "one")
	applied, _, _ := reloading(t, file)
	testkit.Write(t, file, "two")
	wantApplied(t, applied, "two")
}

func TestReloadOnAReplacedFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	testkit.Write(t, file, "one")
	applied, _, _ := reloading(t, file)
	for _, text := range []string{"two", "three"} { // twice: the watch must outlive the first file
		testkit.Write(t, filepath.Join(dir, "new"), text)
		if err := os.Rename(filepath.Join(dir, "new"), file); err != nil {
			t.Fatal(err)
		}
		wantApplied(t, applied, text)
	}
}

func TestReloadOnAChangedLink(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		testkit.Write(t, filepath.Join(dir, version, "config.yaml"), version)
	}
	link := func(version string) {
		if err := os.Symlink(version, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	link("v1")
	file := filepath.Join(dir, "config.yaml") // as Kubernetes mounts a ConfigMap
	if err := os.Symlink(filepath.Join("..data", "config.yaml"), file); err != nil {
		t.Fatal(err)
	}
	applied, _, _ := reloading(t, file)
	link("v2")
	wantApplied(t, applied, "v2")
}

func TestReloadOnHangupEvenWhenNothingChanged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	testkit.Write(t, file, "one")
	applied, hangup, _ := reloading(t, file)
	hangup <- syscall.SIGHUP
	wantApplied(t, applied, "one")
}

func TestOtherFilesAndEqualContentDoNotReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	testkit.Write(t, file, "one")
	r := &reloader{file: file, last: []byte("one")}
	if r.changed() {
		t.Error("changed although the file is the same")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if r.changed() {
		t.Error("changed when the file is away")
	}
	testkit.Write(t, file, "one")
	if r.changed() {
		t.Error("changed when the same is written again")
	}
	testkit.Write(t, file, "two")
	if !r.changed() || r.changed() {
		t.Error("another content must be a change, once")
	}
}

func TestFailedReloadIsLogged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	testkit.Write(t, file, "one")
	applied, hangup, logged := reloading(t, file)
	testkit.Write(t, file, "bad")
	wantApplied(t, applied, "bad")
	hangup <- syscall.SIGHUP // taken when the one before has been logged
	wantApplied(t, applied, "bad")
	if got := logged(); !strings.Contains(got, "configuration not reloaded; the one before stays") || !strings.Contains(got, "bad file") {
		t.Errorf("log = %s", got)
	}
}
