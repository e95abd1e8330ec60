package translate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner walks JSON once, without building anything. It is strict: what it
// accepts is valid RFC 8259 JSON. Objects and arrays are walked so:
//
//	for more := s.open('{'); more; more = s.more('}') {
//		key := s.key()
//		s.skip()
//	}
//
// After the first failure err is set and every call returns at once.
type scanner struct {
	b        []byte
	i        int
	depth    int
	maxDepth int
	lax      bool // tolerate broken UTF-8 inside strings
	err      *InvalidError
}

// quoted is a JSON string: where the bytes between its quotes are, and whether
// an escape is among them.
type quoted struct {
	from, to int
	escaped  bool
}

// fail records the first failure.
func (s *scanner) fail(what string) {
	if s.err != nil {
		return
	}
	if s.i >= len(s.b) {
		what = "unexpected end"
	}
	s.err = &InvalidError{
		Message: fmt.Sprintf("The request body is not valid JSON: %s at byte %d.", what, min(s.i, len(s.b))),
		Code:    "invalid_json",
	}
}

// space skips white space.
func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// next skips white space and returns the byte that follows, 0 at the end.
func (s *scanner) next() byte {
	if s.i < len(s.b) && s.b[s.i] > ' ' {
		return s.b[s.i]
	}
	s.space()
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

// open enters an object or array and reports whether it has an element.
func (s *scanner) open(c byte) bool {
	if s.err != nil {
		return false
	}
	if s.next() != c {
		s.fail(fmt.Sprintf("expected %q", c))
		return false
	}
	s.i++
	if s.depth++; s.depth > s.maxDepth {
		s.fail(fmt.Sprintf("nested deeper than %d levels", s.maxDepth))
		return false
	}
	if s.next() == c+2 { // in ASCII, ']' and '}' follow '[' and '{' by two
		s.i++
		s.depth--
		return false
	}
	return true
}

// more goes on to the next element, or leaves the object or array that end
// closes.
func (s *scanner) more(end byte) bool {
	if s.err != nil {
		return false
	}
	switch s.next() {
	case ',':
		s.i++
		s.next()
		return true
	case end:
		s.i++
		s.depth--
		return false
	}
	s.fail(fmt.Sprintf("expected ',' or %q", end))
	return false
}

// key reads an object's key and the colon after it.
func (s *scanner) key() quoted {
	s.next()
	k := s.text()
	if s.err != nil {
		return quoted{}
	}
	if s.next() != ':' {
		s.fail("expected ':'")
		return quoted{}
	}
	s.i++
	s.next()
	return k
}

// skip passes over one value of any kind.
func (s *scanner) skip() {
	switch s.next() {
	case '"':
		s.text()
	case '{':
		for more := s.open('{'); more; more = s.more('}') {
			s.key()
			s.skip()
		}
	case '[':
		for more := s.open('['); more; more = s.more(']') {
			s.skip()
		}
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		s.number()
	}
}

// end makes sure that nothing but white space follows.
func (s *scanner) end() {
	if s.err != nil {
		return
	}
	if s.next(); s.i < len(s.b) {
		s.fail("unexpected data after the object")
	}
}

func (s *scanner) literal(word string) {
	if s.err != nil {
		return
	}
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		s.fail("unexpected character")
		return
	}
	s.i += len(word)
}

func (s *scanner) number() {
	if s.err != nil {
		return
	}
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	if s.i < len(s.b) && s.b[s.i] == '0' {
		s.i++
	} else if !s.digits() {
		return
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !s.digits() {
			return
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		s.digits()
	}
}

// digits passes over at least one digit.
func (s *scanner) digits() bool {
	from := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	if s.i == from {
		s.fail("unexpected character")
		return false
	}
	return true
}

// text reads a string.
func (s *scanner) text() quoted {
	if s.err != nil {
		return quoted{}
	}
	if s.i >= len(s.b) || s.b[s.i] != '"' {
		s.fail("expected a string")
		return quoted{}
	}
	b, i := s.b, s.i+1
	q := quoted{from: i}
	for {
		i = plainEnd(b, i)
		if i >= len(b) {
			break
		}
		if c := b[i]; c == '"' {
			q.to, s.i = i, i+1
			return q
		} else if c == '\\' {
			q.escaped = true
			if i+1 < len(b) && escapes[b[i+1]] != 0 {
				i += 2
				continue
			}
			if _, ok := hex4(b[i:]); ok {
				i += 6
				continue
			}
			break
		} else if c < ' ' {
			break
		}
		if s.i = i; !s.beyondASCII() {
			return quoted{}
		}
		i = s.i
	}
	s.i = i
	s.badText()
	return quoted{}
}

// badText says what is wrong with a string at the place that is reached.
func (s *scanner) badText() {
	if s.i < len(s.b) && s.b[s.i] == '\\' {
		s.fail("invalid escape")
		return
	}
	s.fail("control character in a string")
}

// beyondASCII passes over a run of multi-byte characters.
func (s *scanner) beyondASCII() bool {
	for s.i < len(s.b) && s.b[s.i] >= utf8.RuneSelf {
		_, n := utf8.DecodeRune(s.b[s.i:])
		if n == 1 && !s.lax {
			s.fail("invalid UTF-8")
			return false
		}
		s.i += n
	}
	return true
}

// Constants for looking at eight bytes at a time: subtracting 1 from a byte
// that is 0, or 0x20 from one below it, borrows into its highest bit. A borrow
// can only disturb bytes after such a find.
const (
	eachByte  = 0x0101010101010101
	highBits  = 0x80 * eachByte
	allQuotes = '"' * eachByte
	allSlash  = '\\' * eachByte
	allSpaces = ' ' * eachByte
)

// plainEnd returns the first place from i on whose byte is a quote, a
// backslash, a control character or not ASCII. Where none comes for a while it
// goes on in larger steps.
func plainEnd(b []byte, i int) int {
	rest := b[i:]
	for words := 0; len(rest) >= 8; words++ {
		if words == 8 {
			rest, words = rest[plainRun(rest):], -1
			continue
		}
		w := binary.LittleEndian.Uint64(rest)
		found := (((w ^ allQuotes) - eachByte) | ((w ^ allSlash) - eachByte) | (w - allSpaces) | w) & highBits
		if found != 0 {
			return len(b) - len(rest) + bits.TrailingZeros64(found)/8
		}
		rest = rest[8:]
	}
	for i = len(b) - len(rest); i < len(b); i++ {
		if c := b[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			break
		}
	}
	return i
}

// plainRun is the length of the plain text at the start of b, of which it
// looks at so much that the library's fast search pays, and no more, lest a
// long text with a foreign letter here and there be searched again and again.
// It is 0 when something other than a quote or a backslash is in the way.
func plainRun(b []byte) int {
	b = b[:min(len(b), 2048)]
	if n := bytes.IndexByte(b, '"'); n >= 0 {
		b = b[:n]
	}
	if n := bytes.IndexByte(b, '\\'); n >= 0 {
		b = b[:n]
	}
	size := len(b)
	var found uint64
	for len(b) >= 32 {
		w0, w1 := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		w2, w3 := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
		found |= (w0 - allSpaces) | w0 | (w1 - allSpaces) | w1 | (w2 - allSpaces) | w2 | (w3 - allSpaces) | w3
		b = b[32:]
	}
	if found&highBits != 0 {
		return 0
	}
	return size - len(b)
}

// escapes are the short escapes' meanings.
var escapes = [256]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// hex4 decodes the \uXXXX at the start of b.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// appendUnescaped appends what the JSON string means. Half a surrogate pair
// becomes U+FFFD.
func appendUnescaped(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			n := 1
			for i+n < len(raw) && raw[i+n] != '\\' {
				n++
			}
			dst = append(dst, raw[i:i+n]...)
			i += n
			continue
		}
		if raw[i+1] != 'u' {
			dst = append(dst, escapes[raw[i+1]])
			i += 2
			continue
		}
		r, _ := hex4(raw[i:])
		i += 6
		if utf16.IsSurrogate(r) {
			low, ok := hex4(raw[i:])
			if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
				i += 6
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// bytes is what the string means; it shares the input's memory when it can.
func (s *scanner) bytes(q quoted) []byte {
	raw := s.b[q.from:q.to]
	if !q.escaped {
		return raw
	}
	return appendUnescaped(make([]byte, 0, len(raw)), raw)
}

// size is the number of bytes that the string means.
func (s *scanner) size(q quoted) int64 {
	if !q.escaped {
		return int64(q.to - q.from)
	}
	n := 0
	for i := q.from; i < q.to; i++ {
		if s.b[i] == '\\' {
			if s.b[i+1] == 'u' {
				n += 2 // three at most for four hex digits: rounded up below
				i += 4
			}
			i++
		}
		n++
	}
	return int64(n)
}

// appendQuoted appends s as a JSON string. Broken UTF-8 becomes U+FFFD.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

// valid reports whether raw is one JSON value.
func valid(raw string) bool {
	s := scanner{b: []byte(raw), maxDepth: maxRequestDepth}
	s.skip()
	s.end()
	return s.err == nil
}
