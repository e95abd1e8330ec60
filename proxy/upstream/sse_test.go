package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// seen is an event as a test compares it; pieces of one event are joined.
func seen(r io.Reader) (events []string, err error) {
	var piece []byte
	for e, err := range readEvents(r) {
		if err != nil {
			return events, err
		}
		if e.Comment {
			events = append(events, "comment "+string(e.Data))
			continue
		}
		piece = append(piece, e.Data...)
		if e.Partial {
			continue
		}
		s := fmt.Sprintf("%s|%s", e.Name, piece)
		if e.Cut {
			s += "|cut"
		}
		events = append(events, s)
		piece = piece[:0]
	}
	return events, nil
}

func TestReadEvents(t *testing.T) {
	for _, c := range []struct {
		name, stream string
		want         []string
	}{
		{"LF", "data: a\n\ndata: b\n\n", []string{"|a", "|b"}},
		{"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", []string{"|a", "|b"}},
		{"CR", "data: a\r\rdata: b\r\r", []string{"|a", "|b"}},
		{"all three", "data: a\rdata: b\r\ndata: c\n\r\ndata: d\n\n", []string{"|a\nb\nc", "|d"}},
		{"a byte order mark", "\xef\xbb\xbfdata: a\n\n", []string{"|a"}},
		{"a byte order mark later is text", "data: a\n\n\xef\xbb\xbfdata: b\n\n", []string{"|a"}},
		{"several data lines", "data: a\ndata:\ndata:  b\n\n", []string{"|a\n\n b"}},
		{"no space after the colon", "data:a\n\n", []string{"|a"}},
		{"no colon", "data\n\n", []string{"|"}},
		{"a name", "event: ping\ndata: {}\n\ndata: x\n\n", []string{"ping|{}", "|x"}},
		{"a name without data", "event: ping\n\ndata: x\n\n", []string{"|x"}},
		{"id, retry and others", "id: 1\nretry: 5\nfoo: bar\ndata: x\n\n", []string{"|x"}},
		{"comments", ": hello\n:\n\ndata: x\n: inside\ndata: y\n\n", []string{"comment hello", "comment ", "comment inside", "|x\ny"}},
		{"empty lines", "\n\n\r\n\rdata: x\n\n\n\n", []string{"|x"}},
		{"no blank line at the end", "data: x\n\ndata: [DONE]\n", []string{"|x", "|[DONE]|cut"}},
		{"no line end at the end", "data: x\n\ndata: [DONE]", []string{"|x", "|[DONE]|cut"}},
		{"nothing", "", nil},
		{"half a byte order mark", "\xef\xbb", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			for size := 1; size <= len(c.stream)+1; size++ {
				got, err := seen(&sliced{rest: []byte(c.stream), size: size})
				if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Fatalf("in slices of %d: got %q, %v; want %q", size, got, err, c.want)
				}
			}
		})
	}
}

// sliced gives out its bytes size at a time.
type sliced struct {
	rest []byte
	size int
}

func (s *sliced) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.size)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func TestReadEventsSaysWhetherMoreIsInMemory(t *testing.T) {
	var got []bool
	for e, err := range readEvents(io.MultiReader(
		strings.NewReader("data: a\n\n: c\ndata: b\n\n\n\nevent: none\n\ndata: ha"), strings.NewReader("lf\n\n"))) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.More)
	}
	if want := []bool{true, true, false, false}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("More = %v, want %v: nothing may wait for what is not there yet", got, want)
	}
}

func TestReadEventsReportsAnErrorAfterWhatCameBefore(t *testing.T) {
	broken := errors.New("broken")
	got, err := seen(io.MultiReader(strings.NewReader("data: a\n\ndata: b"), iotest.ErrReader(broken)))
	if err != broken || fmt.Sprint(got) != "[|a]" {
		t.Errorf("got %q, %v", got, err)
	}
	got, err = seen(iotest.DataErrReader(strings.NewReader("data: a\n\n")))
	if err != nil || fmt.Sprint(got) != "[|a]" {
		t.Errorf("data with EOF: got %q, %v", got, err)
	}
}

// line is an endless line of x after a prefix.
type line struct {
	prefix, suffix string
	left           int
}

func (l *line) Read(p []byte) (int, error) {
	if l.prefix != "" {
		n := copy(p, l.prefix)
		l.prefix = l.prefix[n:]
		return n, nil
	}
	if l.left == 0 {
		n := copy(p, l.suffix)
		if l.suffix = l.suffix[n:]; n == 0 {
			return 0, io.EOF
		}
		return n, nil
	}
	n := min(len(p), l.left)
	copy(p[:n], bytes.Repeat([]byte("x"), n))
	l.left -= n
	return n, nil
}

func TestReadEventsHandsLongEventsOnInPieces(t *testing.T) {
	const size = 40 << 20
	for _, c := range []struct {
		name, prefix, suffix string
		want                 int
	}{
		{"one line of 40 MiB", "data: ", "\n\ndata: z\n\n", size},
		{"a long second line", "data: ab\ndata:", "\ndata: c\n\ndata: z\n\n", size + len("ab\n") + len("\nc")},
		{"a comment of 40 MiB is dropped", ":", "\n\ndata: z\n\n", -1},
		{"an unknown field of 40 MiB is dropped", "x:", "\ndata: y\n\ndata: z\n\n", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			total, longest, last := 0, 0, ""
			var events []int
			for e, err := range readEvents(&line{prefix: c.prefix, suffix: c.suffix, left: size}) {
				if err != nil {
					t.Fatal(err)
				}
				longest = max(longest, len(e.Data))
				total += len(e.Data)
				if !e.Partial {
					events = append(events, total)
					total, last = 0, string(e.Data)
				}
			}
			want := []int{c.want, 1}
			if c.want < 0 {
				want = want[1:]
			}
			if fmt.Sprint(events) != fmt.Sprint(want) || last != "z" {
				t.Errorf("events of %d bytes, the last %q; want %d", events, last, want)
			}
			if longest > maxEvent {
				t.Errorf("a piece has %d bytes, want at most %d", longest, maxEvent)
			}
		})
	}
}

func TestReadEventsNeedsLittleMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, err := range readEvents(&line{prefix: "data: ", suffix: "\n\n", left: 40 << 20}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	// The line's reader itself makes garbage: a Repeat of each read's size.
	if got := after.TotalAlloc - before.TotalAlloc; got > 56<<20 {
		t.Errorf("%d MiB allocated for 40 MiB passed on", got>>20)
	}
}

func FuzzReadEvents(f *testing.F) {
	f.Add([]byte("data: a\r\n\r\n: c\ndata: b\ndata: c\n\nevent: x\ndata\n\n\xef\xbb\xbf"), 3)
	f.Add([]byte("\xef\xbb\xbfdata: a\r\rdata:b"), 1)
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		if size < 1 {
			size = 1
		}
		whole, err := seen(bytes.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		split, err := seen(&sliced{rest: stream, size: size})
		if err != nil || fmt.Sprint(split) != fmt.Sprint(whole) {
			t.Fatalf("in slices of %d: got %q, %v; want %q", size, split, err, whole)
		}
		if want := simpleEvents(stream); fmt.Sprint(whole) != fmt.Sprint(want) {
			t.Fatalf("got %q, want %q", whole, want)
		}
	})
}

// simpleEvents reads events as plainly as the standard puts it.
func simpleEvents(stream []byte) (events []string) {
	text := strings.TrimPrefix(string(stream), "\xef\xbb\xbf")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	var data []string
	name := ""
	flush := func(end string) {
		if data != nil {
			events = append(events, name+"|"+strings.Join(data, "\n")+end)
		}
		data, name = nil, ""
	}
	for i, l := range lines {
		field, value, _ := strings.Cut(l, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case l == "" && i < len(lines)-1:
			flush("")
		case l == "":
		case field == "" && i < len(lines)-1:
			events = append(events, "comment "+value)
		case field == "data":
			data = append(data, value)
		case field == "event":
			name = value[:min(len(value), 64)]
		}
	}
	flush("|cut")
	return events
}

func BenchmarkReadEvents(b *testing.B) {
	event := []byte("data: " + strings.Repeat("x", 250) + "\n\n")
	stream := bytes.Repeat(event, 1000)
	b.ReportAllocs()
	b.SetBytes(int64(len(event)))
	for n := 0; n < b.N; n += 1000 {
		for _, err := range readEvents(bytes.NewReader(stream)) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
