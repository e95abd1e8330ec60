package measure

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"path"
	"strings"
)

// errTooMuch ends the decompression of files that hold more than is measured.
var errTooMuch = errors.New("more than is measured")

// inflate decompresses r to w within what the request may still spend.
func (m *Measurer) inflate(w io.Writer, r io.Reader) error {
	n, err := io.Copy(w, io.LimitReader(r, mostInflated-m.inflated+1))
	if m.inflated += n; m.inflated > mostInflated {
		return errTooMuch
	}
	return err
}

// office bounds the text of a docx, xlsx, pptx, odt or other zip by what its
// text members decompress to: markup is not less than text.
func (m *Measurer) office(b []byte) (size int64, ok bool) {
	archive, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return 0, false
	}
	for _, f := range archive.File {
		switch strings.ToLower(path.Ext(f.Name)) {
		case ".png", ".jpg", ".jpeg", ".gif", ".emf", ".wmf", ".bin", ".ttf", ".odttf":
			continue
		}
		before := m.inflated
		r, err := f.Open()
		if err != nil {
			return 0, false
		}
		err = m.inflate(io.Discard, r)
		_ = r.Close()
		if size += m.inflated - before; err != nil {
			return 0, false
		}
	}
	return size, true
}
