package measure

import (
	"bufio"
	"encoding/base64"
	"io"
	"strings"
)

// encodingOf is the alphabet a text is written in. Padding and line breaks are
// dealt with by the reader.
func encodingOf(data string) *base64.Encoding {
	if strings.ContainsAny(data[:min(len(data), 4096)], "-_") {
		return base64.RawURLEncoding
	}
	return base64.RawStdEncoding
}

// unpadded reads base64 text without its white space and padding.
type unpadded struct{ text string }

func (u *unpadded) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && u.text != "" {
		part := u.text[:min(len(u.text), len(p)-n)]
		u.text = u.text[len(part):]
		for len(part) > 0 {
			i := strings.IndexAny(part, "= \r\n\t")
			if i < 0 {
				i = len(part)
			}
			n += copy(p[n:], part[:i])
			part = part[min(len(part), i+1):]
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// newDecoder reads what base64 text stands for, without holding it.
func newDecoder(e *base64.Encoding, data string) *bufio.Reader {
	return bufio.NewReader(base64.NewDecoder(e, &unpadded{data}))
}

// decodeHead decodes up to n bytes; what cannot be decoded ends it.
func decodeHead(e *base64.Encoding, data string, n int) []byte {
	head := make([]byte, n)
	n, _ = io.ReadFull(newDecoder(e, data), head)
	return head[:n]
}

// decodeAll decodes all of it, or as far as it is base64.
func decodeAll(e *base64.Encoding, data string) []byte {
	out := make([]byte, e.DecodedLen(len(data)))
	n, _ := io.ReadFull(newDecoder(e, data), out)
	return out[:n]
}
