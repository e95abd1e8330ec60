package translate

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// jsonText builds JSON by appending. Commas look after themselves: the last
// byte written says whether a new value or name needs one before it.
type jsonText []byte

func (t *jsonText) comma() {
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

func (t *jsonText) object() { t.comma(); *t = append(*t, '{') }
func (t *jsonText) array()  { t.comma(); *t = append(*t, '[') }
func (t *jsonText) endObject() {
	*t = append(*t, '}')
}
func (t *jsonText) endArray() {
	*t = append(*t, ']')
}

// key writes a member's name, which must need no escaping.
func (t *jsonText) key(name string) {
	t.comma()
	*t = append(*t, '"')
	*t = append(*t, name...)
	*t = append(*t, '"', ':')
}

// openObject writes "name":{ and openArray "name":[.
func (t *jsonText) openObject(name string) { t.key(name); *t = append(*t, '{') }
func (t *jsonText) openArray(name string)  { t.key(name); *t = append(*t, '[') }

func (t *jsonText) string(s string) {
	t.comma()
	*t = appendJSONString(*t, s)
}

func (t *jsonText) raw(json string) {
	t.comma()
	*t = append(*t, json...)
}

func (t *jsonText) int(n int64) {
	t.comma()
	*t = strconv.AppendInt(*t, n, 10)
}

func (t *jsonText) number(f float64) {
	t.comma()
	*t = strconv.AppendFloat(*t, f, 'f', -1, 64)
}

func (t *jsonText) bool(v bool) {
	t.comma()
	*t = strconv.AppendBool(*t, v)
}

func (t *jsonText) stringMember(name, value string) { t.key(name); t.string(value) }
func (t *jsonText) rawMember(name, json string)     { t.key(name); t.raw(json) }
func (t *jsonText) intMember(name string, n int64)  { t.key(name); t.int(n) }

// appendJSONString quotes s. Plain ASCII, which most text is, is copied in one
// piece; the rest is escaped, and what is not UTF-8 becomes U+FFFD.
func appendJSONString(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return gjson.AppendJSONString(dst, s)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// wholePairs returns JSON in which no escape is half of a surrogate pair: some
// providers refuse the whole request for one. A half becomes U+FFFD, as it does
// in text that is read.
func wholePairs(json string) string {
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

// tooDeep reports whether body nests objects and arrays more than limit deep.
// It is checked before anything that recurses is let at foreign JSON.
func tooDeep(body []byte, limit int) bool {
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
