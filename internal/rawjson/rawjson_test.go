package rawjson_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/internal/rawjson"
)

func FuzzAppendStringMeansWhatItWasGiven(f *testing.F) {
	for _, s := range []string{"", "plain", `q"b\`, "a\nb\x00\x1f\x7f", "ü\u2028\u0085😀", "\xff\xc3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		quoted := rawjson.AppendString(nil, s)
		if err := json.Unmarshal(quoted, &got); err != nil {
			t.Fatalf("%q: %v", quoted, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); got != want && got != string([]rune(s)) {
			t.Errorf("%q came back as %q", s, got)
		}
		if strings.ContainsAny(string(quoted), "\u2028\u2029\u0085\n") {
			t.Errorf("%q holds a line separator", quoted)
		}
	})
}

func FuzzValidAgreesWithTheLibrary(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,2.5e3,true,null,"\u00e4"]}`, `[1,]`, `01`, `"\x"`, `{"a" 1}`, " 1 ", "\"\xff\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if rawjson.Valid(s, 64) && !json.Valid([]byte(s)) {
			t.Errorf("%q is not JSON", s)
		}
	})
}

func TestScannerSaysWhatIsWrongAndWhere(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1`: "unexpected end at byte 6", `{"a":x}`: "unexpected character at byte 5",
		`{"a":1} 2`: "unexpected data after the object at byte 8", `[[[[1]]]]`: "nested deeper than 3 levels at byte 4",
	} {
		s := rawjson.Scanner{Data: []byte(in), MaxDepth: 3}
		s.Skip()
		s.End()
		var syntax *rawjson.SyntaxError
		if !errors.As(s.Err, &syntax) || s.Err.Error() != want {
			t.Errorf("%s: %v; want %s", in, s.Err, want)
		}
	}
}

func TestWriterSetsCommas(t *testing.T) {
	var w rawjson.Writer
	w.Object()
	w.StringMember("a", "x")
	w.OpenArray("b")
	w.Int(1)
	w.Number(0.5)
	w.Bool(true)
	w.Array()
	w.EndArray()
	w.EndArray()
	w.RawKey(`"\u0063"`)
	w.Raw("null")
	w.OpenObject("d")
	w.EndObject()
	w.EndObject()
	if want := `{"a":"x","b":[1,0.5,true,[]],"\u0063":null,"d":{}}`; string(w) != want {
		t.Errorf("got %s, want %s", w, want)
	}
}

func TestHalfASurrogatePairIsReplaced(t *testing.T) {
	for in, want := range map[string]string{
		`"\ud83d\ude00"`: `"\ud83d\ude00"`, `"\ud83d"`: `"\ufffd"`, `"\ude00x"`: `"\ufffdx"`, `"\\ud83d"`: `"\\ud83d"`,
	} {
		if got := rawjson.WholePairs(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
