package rawjson

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// Scanner walks JSON once, without building anything. It is strict: what it
// accepts is valid RFC 8259 JSON. Objects and arrays are walked so:
//
//	for more := s.Open('{'); more; more = s.More('}') {
//		key := s.Key()
//		s.Skip()
//	}
//
// After the first failure Err is set and every call returns at once; a caller
// may set it, too, to end the walk. A Scanner serves one goroutine.
type Scanner struct {
	Data     []byte
	Pos      int   // the next byte to look at
	MaxDepth int   // of objects and arrays within one another
	Lax      bool  // accept broken UTF-8 inside strings
	Err      error // the first failure: a *SyntaxError, or one that the caller set
	depth    int
}

// Quoted is a JSON string: where the bytes between its quotes are, and whether
// an escape is among them.
type Quoted struct {
	From, To int
	Escaped  bool
}

// SyntaxError says what is wrong with JSON, and where.
type SyntaxError struct {
	What   string // such as "invalid escape"
	Offset int    // in bytes
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.What, e.Offset) }

// Fail records the first failure.
func (s *Scanner) Fail(what string) {
	if s.Err != nil {
		return
	}
	if s.Pos >= len(s.Data) {
		what = "unexpected end"
	}
	s.Err = &SyntaxError{What: what, Offset: min(s.Pos, len(s.Data))}
}

// space skips white space.
func (s *Scanner) space() {
	for s.Pos < len(s.Data) {
		switch s.Data[s.Pos] {
		case ' ', '\t', '\n', '\r':
			s.Pos++
		default:
			return
		}
	}
}

// Next skips white space and returns the byte that follows, 0 at the end.
func (s *Scanner) Next() byte {
	if s.Pos < len(s.Data) && s.Data[s.Pos] > ' ' {
		return s.Data[s.Pos]
	}
	s.space()
	if s.Pos < len(s.Data) {
		return s.Data[s.Pos]
	}
	return 0
}

// Open enters an object or array and reports whether it has an element.
func (s *Scanner) Open(c byte) bool {
	if s.Err != nil {
		return false
	}
	if s.Next() != c {
		s.Fail(fmt.Sprintf("expected %q", c))
		return false
	}
	s.Pos++
	if s.depth++; s.depth > s.MaxDepth {
		s.Fail(fmt.Sprintf("nested deeper than %d levels", s.MaxDepth))
		return false
	}
	if s.Next() == c+2 { // in ASCII, ']' and '}' follow '[' and '{' by two
		s.Pos++
		s.depth--
		return false
	}
	return true
}

// More goes on to the next element, or leaves the object or array that end
// closes.
func (s *Scanner) More(end byte) bool {
	if s.Err != nil {
		return false
	}
	switch s.Next() {
	case ',':
		s.Pos++
		s.Next()
		return true
	case end:
		s.Pos++
		s.depth--
		return false
	}
	s.Fail(fmt.Sprintf("expected ',' or %q", end))
	return false
}

// Key reads an object's key and the colon after it.
func (s *Scanner) Key() Quoted {
	s.Next()
	k := s.Text()
	if s.Err != nil {
		return Quoted{}
	}
	if s.Next() != ':' {
		s.Fail("expected ':'")
		return Quoted{}
	}
	s.Pos++
	s.Next()
	return k
}

// Skip passes over one value of any kind.
func (s *Scanner) Skip() {
	switch s.Next() {
	case '"':
		s.Text()
	case '{':
		for more := s.Open('{'); more; more = s.More('}') {
			s.Key()
			s.Skip()
		}
	case '[':
		for more := s.Open('['); more; more = s.More(']') {
			s.Skip()
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

// End makes sure that nothing but white space follows.
func (s *Scanner) End() {
	if s.Err != nil {
		return
	}
	if s.Next(); s.Pos < len(s.Data) {
		s.Fail("unexpected data after the object")
	}
}

func (s *Scanner) literal(word string) {
	if s.Err != nil {
		return
	}
	if len(s.Data)-s.Pos < len(word) || string(s.Data[s.Pos:s.Pos+len(word)]) != word {
		s.Fail("unexpected character")
		return
	}
	s.Pos += len(word)
}

func (s *Scanner) number() {
	if s.Err != nil {
		return
	}
	if s.Pos < len(s.Data) && s.Data[s.Pos] == '-' {
		s.Pos++
	}
	if s.Pos < len(s.Data) && s.Data[s.Pos] == '0' {
		s.Pos++
	} else if !s.digits() {
		return
	}
	if s.Pos < len(s.Data) && s.Data[s.Pos] == '.' {
		s.Pos++
		if !s.digits() {
			return
		}
	}
	if s.Pos < len(s.Data) && (s.Data[s.Pos] == 'e' || s.Data[s.Pos] == 'E') {
		s.Pos++
		if s.Pos < len(s.Data) && (s.Data[s.Pos] == '+' || s.Data[s.Pos] == '-') {
			s.Pos++
		}
		s.digits()
	}
}

// digits passes over at least one digit.
func (s *Scanner) digits() bool {
	from := s.Pos
	for s.Pos < len(s.Data) && s.Data[s.Pos]-'0' <= 9 {
		s.Pos++
	}
	if s.Pos == from {
		s.Fail("unexpected character")
		return false
	}
	return true
}

// Text reads a string.
func (s *Scanner) Text() Quoted {
	if s.Err != nil {
		return Quoted{}
	}
	if s.Pos >= len(s.Data) || s.Data[s.Pos] != '"' {
		s.Fail("expected a string")
		return Quoted{}
	}
	b, i := s.Data, s.Pos+1
	q := Quoted{From: i}
	for {
		i = plainEnd(b, i)
		if i >= len(b) {
			break
		}
		if c := b[i]; c == '"' {
			q.To, s.Pos = i, i+1
			return q
		} else if c == '\\' {
			q.Escaped = true
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
		if s.Pos = i; !s.beyondASCII() {
			return Quoted{}
		}
		i = s.Pos
	}
	s.Pos = i
	s.badText()
	return Quoted{}
}

// badText says what is wrong with a string at the place that is reached.
func (s *Scanner) badText() {
	if s.Pos < len(s.Data) && s.Data[s.Pos] == '\\' {
		s.Fail("invalid escape")
		return
	}
	s.Fail("control character in a string")
}

// beyondASCII passes over a run of multi-byte characters.
func (s *Scanner) beyondASCII() bool {
	for s.Pos < len(s.Data) && s.Data[s.Pos] >= utf8.RuneSelf {
		_, n := utf8.DecodeRune(s.Data[s.Pos:])
		if n == 1 && !s.Lax {
			s.Fail("invalid UTF-8")
			return false
		}
		s.Pos += n
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

// Bytes is what the string means; it shares the input's memory when it can.
func (s *Scanner) Bytes(q Quoted) []byte {
	raw := s.Data[q.From:q.To]
	if !q.Escaped {
		return raw
	}
	return appendUnescaped(make([]byte, 0, len(raw)), raw)
}

// Size is the number of bytes that the string means.
func (s *Scanner) Size(q Quoted) int64 {
	if !q.Escaped {
		return int64(q.To - q.From)
	}
	n := 0
	for i := q.From; i < q.To; i++ {
		if s.Data[i] == '\\' {
			if s.Data[i+1] == 'u' {
				n += 2 // three at most for four hex digits: rounded up below
				i += 4
			}
			i++
		}
		n++
	}
	return int64(n)
}

// Valid reports whether raw is one JSON value that nests no deeper than depth.
func Valid(raw string, depth int) bool {
	s := Scanner{Data: []byte(raw), MaxDepth: depth}
	s.Skip()
	s.End()
	return s.Err == nil
}
