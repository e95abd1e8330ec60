package rawjson

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Writer builds JSON by appending. Commas look after themselves: the last
// byte written says whether a new value or name needs one before it.
type Writer []byte

func (t *Writer) comma() {
	b := *t
	if len(b) == 0 {
		return
	}
	switch b[len(b)-1] {
	case '{', '[', ':', ',':
	default:
		*t = append(b, ',')
	}
}

// Object and Array open a value, EndObject and EndArray close it.
func (t *Writer) Object() { t.comma(); *t = append(*t, '{') }

// Array opens an array.
func (t *Writer) Array() { t.comma(); *t = append(*t, '[') }

// EndObject closes an object.
func (t *Writer) EndObject() { *t = append(*t, '}') }

// EndArray closes an array.
func (t *Writer) EndArray() { *t = append(*t, ']') }

// Key writes a member's name, which must need no escaping.
func (t *Writer) Key(name string) {
	t.comma()
	*t = append(*t, '"')
	*t = append(*t, name...)
	*t = append(*t, '"', ':')
}

// RawKey writes a member's name that is a JSON string already, quotes and all.
func (t *Writer) RawKey(name string) {
	t.comma()
	*t = append(*t, name...)
	*t = append(*t, ':')
}

// OpenObject writes "name":{ and OpenArray "name":[.
func (t *Writer) OpenObject(name string) { t.Key(name); *t = append(*t, '{') }

// OpenArray writes "name":[.
func (t *Writer) OpenArray(name string) { t.Key(name); *t = append(*t, '[') }

// String writes a string value.
func (t *Writer) String(s string) {
	t.comma()
	*t = AppendString(*t, s)
}

// Raw writes a value that is JSON already.
func (t *Writer) Raw(json string) {
	t.comma()
	*t = append(*t, json...)
}

// Int writes a whole number.
func (t *Writer) Int(n int64) {
	t.comma()
	*t = strconv.AppendInt(*t, n, 10)
}

// Number writes f in the shortest digits that mean it, without an exponent.
func (t *Writer) Number(f float64) {
	t.comma()
	*t = strconv.AppendFloat(*t, f, 'f', -1, 64)
}

// Bool writes true or false.
func (t *Writer) Bool(v bool) {
	t.comma()
	*t = strconv.AppendBool(*t, v)
}

// StringMember writes "name":"value".
func (t *Writer) StringMember(name, value string) { t.Key(name); t.String(value) }

// RawMember writes a member whose value is JSON already.
func (t *Writer) RawMember(name, json string) { t.Key(name); t.Raw(json) }

// IntMember writes a member whose value is a whole number.
func (t *Writer) IntMember(name string, n int64) { t.Key(name); t.Int(n) }

// AppendString appends s as a JSON string. Plain ASCII, which most text is, is
// copied in one piece. Of the rest quotes, backslashes, control characters and
// the line separators of Unicode, at which some clients cut a stream's lines,
// are escaped; what is not UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return appendEscaped(dst, s)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func appendEscaped(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		case r == '\u0085' || r == '\u2028' || r == '\u2029':
			dst = append(dst, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

// WholePairs returns JSON in which no escape is half of a surrogate pair: some
// providers refuse the whole request for one. A half becomes U+FFFD, as it does
// in text that is read.
func WholePairs(json string) string {
	if !strings.Contains(json, `\ud`) && !strings.Contains(json, `\uD`) {
		return json
	}
	in, out := []byte(json), make([]byte, 0, len(json))
	for i := 0; i < len(in); {
		n := 1
		if in[i] == '\\' {
			n = 2
			if r, ok := hex4(in[i:]); ok {
				n = 6
				if low, _ := hex4(in[i+n:]); utf16.DecodeRune(r, low) != utf8.RuneError {
					n = 12
				} else if utf16.IsSurrogate(r) {
					out, i = append(out, `\ufffd`...), i+n
					continue
				}
			}
		}
		out, i = append(out, in[i:i+n]...), i+n
	}
	return string(out)
}

// TooDeep reports whether body nests objects and arrays more than limit deep.
// It is checked before anything that recurses is let at foreign JSON.
func TooDeep(body []byte, limit int) bool {
	depth := 0
	for i := 0; i < len(body); i++ {
		switch body[i] {
		case '{', '[':
			if depth++; depth > limit {
				return true
			}
		case '}', ']':
			depth--
		case '"':
			i = stringEnd(body, i)
		}
	}
	return false
}

// stringEnd returns where the string that opens at body[start] closes, or the
// end of body.
func stringEnd(body []byte, start int) int {
	i := start + 1
	for {
		n := bytes.IndexByte(body[i:], '"')
		if n < 0 {
			return len(body)
		}
		i += n
		slashes := 0
		for j := i - 1; j > start && body[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
		i++
	}
}
