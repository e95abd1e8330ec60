package measure

import (
	"bytes"
	"compress/zlib"
	"errors"
	"slices"
)

// pages is what a PDF says of its pages. A library would say how many pages one
// reader sees; a bound has to hold for each. So everything is counted that any
// reader may go by: the page objects, the references to them, the number the
// tree claims.
type pages struct {
	objects, nodes, kids, claimed int64
	// hidden is set where pages may be that were not seen.
	hidden bool
}

// most bounds the number of pages; false where it is not known. More references
// than there are objects mean that some are shared, and then pages multiply.
func (p *pages) most() (int64, bool) {
	n := max(p.objects, p.kids, p.claimed)
	return n, n > 0 && !p.hidden && p.kids <= p.objects+p.nodes
}

// see counts in what a stretch of PDF says. It looks at names only, and no
// further once something is hidden.
func (p *pages) see(b []byte) {
	for !p.hidden {
		i := bytes.IndexByte(b, '/')
		if i < 0 {
			return
		}
		name := nameOf(b[i+1:])
		b = b[i+1+len(name):]
		switch string(name) {
		case "Type":
			switch string(nameOf(after(b, '/'))) {
			case "Page":
				p.objects++
			case "Pages":
				p.nodes++
			}
		case "Kids":
			b = p.references(b)
		case "Count":
			p.claimed = max(p.claimed, number(trimSpace(b)))
		case "Encrypt":
			p.hidden = true
		default:
			p.hidden = p.hidden || escapesLetters(name)
		}
	}
}

// references counts the references in the array that follows, and returns what
// comes after it.
func (p *pages) references(b []byte) []byte {
	list := after(b, '[')
	end := bytes.IndexByte(list, ']')
	if end < 0 || bytes.IndexByte(list[:end], '/') >= 0 {
		p.hidden = true // the array is elsewhere, or none
		return nil
	}
	p.kids += int64(bytes.Count(list[:end], []byte("R")))
	return list[end:]
}

// after is what follows white space and the byte c, nil where there is another.
func after(b []byte, c byte) []byte {
	if b = trimSpace(b); len(b) == 0 || b[0] != c {
		return nil
	}
	return b[1:]
}

func trimSpace(b []byte) []byte { return bytes.TrimLeft(b[:min(len(b), 1<<20)], "\x00\t\n\f\r ") }

// nameOf is the name that b begins with, after its slash.
func nameOf(b []byte) []byte {
	for i, c := range b[:min(len(b), 128)] {
		if c <= ' ' || bytes.IndexByte([]byte("/[]<>(){}%"), c) >= 0 {
			return b[:i]
		}
	}
	return b[:min(len(b), 128)]
}

// escapesLetters reports whether a name writes a letter as #xx, which only
// somebody does who has something to hide.
func escapesLetters(name []byte) bool {
	for i := bytes.IndexByte(name, '#'); i >= 0 && i+1 < len(name); i++ {
		if name[i] == '#' && name[i+1] >= '4' && name[i+1] <= '7' {
			return true
		}
	}
	return false
}

// number reads decimal digits, nine at most.
func number(b []byte) (n int64) {
	for _, c := range b[:min(len(b), 9)] {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// errHidden says that a stream may hold objects, and is not read here.
var errHidden = errors.New("compressed in a way that is not read here")

// pdf counts the pages of a PDF, and bounds its text by the strings in its
// content. Where objects may hide (encryption, a rare filter, more than is
// measured) ok is false. The time is linear in the file and what it
// decompresses to.
func (m *Measurer) pdf(b []byte) (count, text int64, ok bool) {
	var p pages
	var content bytes.Buffer
	for !p.hidden {
		at := bytes.Index(b, []byte("stream"))
		if at < 0 {
			break
		}
		head := b[:at]
		p.see(head)
		b = b[at+len("stream"):]
		if len(head) >= 3 && string(head[len(head)-3:]) == "end" {
			continue
		}
		content.Reset()
		b = bytes.TrimPrefix(bytes.TrimPrefix(b, []byte("\r")), []byte("\n"))
		err := m.stream(&content, head[max(0, bytes.LastIndex(head, []byte("obj"))):], b)
		if err != nil {
			return 0, 0, false
		}
		p.see(content.Bytes())
		text += stringBytes(content.Bytes())
		if end := bytes.Index(b, []byte("endstream")); end >= 0 {
			b = b[end:]
		} else {
			b = nil
		}
	}
	p.see(b)
	count, ok = p.most()
	return count, text, ok
}

// stream reads one stream into to, unless it is an image or a font: these have
// neither pages nor text.
func (m *Measurer) stream(to *bytes.Buffer, dict, b []byte) error {
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return bytes.Contains(dict, []byte(name)) })
	}
	flate := has("/FlateDecode", "/Fl ", "/Fl/", "/Fl>")
	switch {
	case !has("/ObjStm") && has("/Image", "/Length1", "/FontFile", "/XRef", "/DCTDecode", "/JPXDecode"):
		return nil
	case has("/Filter") && (!flate || has("LZW", "/ASCII", "/RunLength", "/AHx", "/A85", "/Crypt")):
		return errHidden
	case flate:
		return m.inflateZlib(to, b)
	}
	end := bytes.Index(b, []byte("endstream"))
	if end < 0 {
		end = len(b)
	}
	return m.inflate(to, bytes.NewReader(b[:end]))
}

// inflateZlib decompresses; of damaged data what came before the damage counts,
// as it does for readers.
func (m *Measurer) inflateZlib(to *bytes.Buffer, b []byte) error {
	var err error
	if m.zlib == nil {
		m.zlib, err = zlib.NewReader(bytes.NewReader(b))
	} else {
		err = m.zlib.(zlib.Resetter).Reset(bytes.NewReader(b), nil)
	}
	if err != nil {
		return nil
	}
	if err = m.inflate(to, m.zlib); errors.Is(err, errTooMuch) {
		return err
	}
	return nil
}

// stringBytes is how many bytes stand in literal and hexadecimal strings.
func stringBytes(b []byte) (n int64) {
	depth, hex := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case depth > 0 && c == '\\':
			i++
			n++
		case c == '(' && !hex:
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth > 0:
			n++
		case c == '<':
			hex = true
		case c == '>':
			hex = false
		case hex:
			n++
		}
	}
	return n
}
