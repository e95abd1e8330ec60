package command

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"time"
)

// poll is how often the file is looked at. A look costs a system call, whatever
// else happens in the file's directory and however the file is replaced: by an
// editor's rename, or by the link of a mounted configuration. Where it looks the
// same twice it is taken to be written in full.
const poll = 250 * time.Millisecond

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

// run watches until ctx ends.
func (r *reloader) run(ctx context.Context) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	seen, _ := os.Stat(r.file)
	written := false // what was seen last has been compared with what is in force
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.hangup:
			r.changed()
			r.reload("SIGHUP")
		case <-tick.C:
			now, err := os.Stat(r.file)
			switch {
			case err != nil: // gone, about to be replaced
			case seen == nil || !sameFile(seen, now):
				seen, written = now, false
			case !written:
				if written = true; r.changed() {
					r.reload("file changed")
				}
			}
		}
	}
}

// sameFile says whether nothing has been written or replaced between two looks.
func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// changed reports whether the file holds something else than before. A file
// that is gone is about to be replaced.
func (r *reloader) changed() bool {
	now, err := os.ReadFile(r.file)
	if err != nil || bytes.Equal(now, r.last) {
		return false
	}
	r.last = now
	return true
}

func (r *reloader) reload(why string) {
	if err := r.apply(); err != nil {
		r.log.Error("configuration not reloaded; the one before stays", "file", r.file, "why", why, "error", err)
		return
	}
	r.log.Info("configuration reloaded", "file", r.file, "why", why)
}
