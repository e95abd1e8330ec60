package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a file must be left alone before it is read again:
// editors and configuration management write in several steps.
const settle = 200 * time.Millisecond

// reloader applies a changed configuration file. An invalid one is logged and
// changes nothing.
type reloader struct {
	file   string
	hangup <-chan os.Signal // a reload is asked for, changed or not
	// apply reads the file, checks it, builds from it and swaps; it changes
	// nothing when it returns an error.
	apply func() error
	log   *slog.Logger
	last  []byte // what the file held when it was last applied
}

// run watches until ctx ends. Where files cannot be watched, signals still work.
func (r *reloader) run(ctx context.Context) {
	events, errs := (<-chan fsnotify.Event)(nil), (<-chan error)(nil)
	if w, err := r.watch(); err != nil {
		r.log.Warn("configuration file is not watched; SIGHUP reloads it", "file", r.file, "error", err)
	} else {
		defer func() { _ = w.Close() }()
		events, errs = w.Events, w.Errors
	}
	quiet := time.NewTimer(settle) // the file may have changed before it was watched
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.hangup:
			r.changed()
			r.reload("SIGHUP")
		case _, open := <-events:
			if !open {
				events = nil
			}
			quiet.Reset(settle)
		case err, open := <-errs:
			if !open {
				errs = nil
			} else {
				r.log.Warn("watching the configuration file", "file", r.file, "error", err)
			}
		case <-quiet.C:
			if r.changed() {
				r.reload("file changed")
			}
		}
	}
}

// changed reports whether the file holds something else than before. Most
// events are of other files in its directory, and a file that is gone is about
// to be replaced.
func (r *reloader) changed() bool {
	now, err := os.ReadFile(r.file)
	if err != nil || bytes.Equal(now, r.last) {
		return false
	}
	r.last = now
	return true
}

// watch watches the directories that the file, and what it links to, are in:
// editors replace files, and a mounted configuration is a link that is changed.
func (r *reloader) watch() (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	dirs := []string{filepath.Dir(r.file)}
	if target, err := filepath.EvalSymlinks(r.file); err == nil {
		dirs = append(dirs, filepath.Dir(target))
	}
	for _, dir := range dirs {
		if err := w.Add(dir); err != nil {
			_ = w.Close()
			return nil, fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	return w, nil
}

func (r *reloader) reload(why string) {
	if err := r.apply(); err != nil {
		r.log.Error("configuration not reloaded; the one before stays", "file", r.file, "why", why, "error", err)
		return
	}
	r.log.Info("configuration reloaded", "file", r.file, "why", why)
}
