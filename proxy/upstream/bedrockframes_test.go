package upstream

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
	"github.com/inference-router/inference-router/translate"
)

func encodeFrames(frames []bedrocktest.Frame) (b []byte) {
	for _, f := range frames {
		b = append(b, f.Encode()...)
	}
	return b
}

func TestFramesAreReadHoweverTheyArrive(t *testing.T) {
	wire := encodeFrames(bedrocktest.Text("Hello."))
	for name, reader := range map[string]io.Reader{
		"at once": bytes.NewReader(wire), "byte by byte": iotest.OneByteReader(bytes.NewReader(wire)),
		"in halves": iotest.HalfReader(bytes.NewReader(wire)), "with the end": iotest.DataErrReader(bytes.NewReader(wire)),
	} {
		var types []string
		more := 0
		for e, err := range readFrames(t.Context(), reader) {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			types = append(types, e.Type)
			if e.More {
				more++
			}
		}
		if len(types) != 5 || types[0] != "messageStart" || types[4] != "metadata" {
			t.Errorf("%s: got %v", name, types)
		}
		if name == "at once" && more != 4 || name == "byte by byte" && more != 0 {
			t.Errorf("%s: %d events say that more is there", name, more)
		}
	}
}

func TestEveryCutOfTheFramesIsAnErrorUnlessBetweenThem(t *testing.T) {
	frames := bedrocktest.Text("Hello.")
	wire := encodeFrames(frames)
	ends := map[int]bool{0: true}
	at := 0
	for _, f := range frames {
		at += len(f.Encode())
		ends[at] = true
	}
	for cut := range wire {
		var last error
		for _, err := range readFrames(t.Context(), bytes.NewReader(wire[:cut])) {
			last = err
		}
		if (last == nil) != ends[cut] {
			t.Errorf("cut after %d bytes: got %v", cut, last)
		}
	}
}

func FuzzReadFrames(f *testing.F) {
	f.Add(encodeFrames(bedrocktest.Text("Hello.")))
	f.Add(encodeFrames([]bedrocktest.Frame{bedrocktest.Exception("throttlingException", "slow"), {ErrorCode: "Boom", JSON: "x"}}))
	f.Add([]byte{0, 0, 0, 16, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, wire []byte) {
		failed := false
		for e, err := range readFrames(t.Context(), bytes.NewReader(wire)) {
			if failed {
				t.Error("an event after an error")
			}
			var up *translate.UpstreamError
			if failed = err != nil; failed && !errors.As(err, &up) {
				t.Errorf("got %v, want an UpstreamError", err)
			}
			if len(e.Payload) > maxEvent {
				t.Errorf("an event of %d bytes", len(e.Payload))
			}
		}
	})
}

func BenchmarkReadFrames(b *testing.B) {
	frame := bedrocktest.Event("contentBlockDelta", `{"contentBlockIndex":0,"delta":{"text":" the capital of France"},"p":"abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"}`).Encode()
	n := 0
	source := readerFunc(func(p []byte) (int, error) {
		n++
		return copy(p, frame), nil
	})
	b.ReportAllocs()
	for _, err := range readFrames(b.Context(), source) {
		if err != nil || !b.Loop() {
			break
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
