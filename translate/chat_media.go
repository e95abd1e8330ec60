package translate

import (
	"bytes"
	"encoding/base64"
	"path"
	"strings"

	"github.com/tidwall/gjson"
)

// media is an image, a document or a sound: its bytes as base64, or where
// they are.
type media struct {
	format string // png, pdf, wav, …: by content first, then by what was declared
	base64 string // standard alphabet, padded; "" when url is set
	url    string // http(s) or s3
	name   string // a document's file name, as the client has it
}

// imageMIME is the media type of each image format that models take.
var imageMIME = map[string]string{"png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}

func readImage(v gjson.Result) (block, error) {
	link := v
	if v.IsObject() { // a bare string is common, too
		link = v.Get("url")
	}
	var url string
	b := block{kind: blockImage}
	err := readString(&url, link)
	if err == nil {
		b, err = imageBlock(url)
	}
	if v.IsObject() || !v.Exists() {
		err = within("url", err)
	}
	return b, within("image_url", err)
}

func imageBlock(url string) (block, error) {
	b := block{kind: blockImage, media: &media{}}
	scheme, _, found := strings.Cut(url, ":")
	if !found {
		return b, refusef("expected a data: or https: URL")
	}
	switch strings.ToLower(scheme) {
	case "http", "https", "s3":
		b.media.url = url
		b.media.format = imageByExtension(url)
		return b, nil
	case "data":
	default:
		return b, refusef("expected a data: or https: URL")
	}
	mime, data, err := splitDataURL(url)
	if err != nil {
		return b, err
	}
	b.media.base64 = data
	b.media.format = sniffFormat(firstBytes(data))
	switch {
	case b.media.format == "pdf" || mime == "application/pdf":
		b.kind, b.media.format = blockDocument, "pdf"
	case b.media.format == "":
		b.media.format = strings.TrimPrefix(mime, "image/")
		if b.media.format == "jpg" || b.media.format == "pjpeg" {
			b.media.format = "jpeg"
		}
	}
	if b.kind == blockImage && imageMIME[b.media.format] == "" {
		return b, refusef("this image is neither png, jpeg, gif nor webp")
	}
	return b, nil
}

func imageByExtension(url string) string {
	url, _, _ = strings.Cut(url, "?")
	format := strings.TrimPrefix(strings.ToLower(path.Ext(url)), ".")
	if format == "jpg" {
		format = "jpeg"
	}
	return format
}

func readAudio(v gjson.Result) (block, error) {
	b := block{kind: blockAudio, media: &media{}}
	err := eachMember(v, func(name string, e gjson.Result) (err error) {
		switch name {
		case "data":
			if err = readString(&b.media.base64, e); err == nil {
				b.media.base64, err = cleanBase64(b.media.base64)
			}
		case "format":
			err = readOneOf(&b.media.format, e, "wav", "mp3")
		}
		return within(name, err)
	})
	if err == nil && b.media.format == "" {
		err = within("format", refusef("expected one of wav, mp3"))
	}
	if err == nil && b.media.base64 == "" {
		err = within("data", refusef("expected base64"))
	}
	return b, within("input_audio", err)
}

func readFile(v gjson.Result) (block, error) {
	var data, name, id string
	err := eachMember(v, func(key string, e gjson.Result) (err error) {
		switch key {
		case "file_data":
			err = readString(&data, e)
		case "filename":
			err = readString(&name, e)
		case "file_id":
			err = readString(&id, e)
		}
		return within(key, err)
	})
	switch {
	case err != nil:
	case data == "" && id != "":
		err = within("file_id", refusef("uploaded files are not available to this model; send file_data"))
	case data == "":
		err = within("file_data", refusef("expected the file as a data: URL or base64"))
	}
	b := block{kind: blockDocument}
	if err == nil {
		b, err = fileBlock(data, name)
		err = within("file_data", err)
	}
	return b, within("file", err)
}

func fileBlock(data, name string) (block, error) {
	b := block{kind: blockDocument, media: &media{name: name}}
	mime, err := "", error(nil)
	if len(data) >= 5 && strings.EqualFold(data[:5], "data:") {
		mime, data, err = splitDataURL(data)
	} else {
		data, err = cleanBase64(data)
	}
	if err != nil {
		return b, err
	}
	b.media.base64 = data
	head := firstBytes(data)
	if format := sniffFormat(head); imageMIME[format] != "" {
		b.kind, b.media.format = blockImage, format
		return b, nil
	}
	b.media.format = documentFormat(mime, name, head)
	if b.media.format == "" {
		return b, refusef("this file is none of pdf, csv, doc, docx, xls, xlsx, html, txt, md")
	}
	return b, nil
}

// documentMIME gives the format of each media type of documents.
var documentMIME = map[string]string{
	"application/pdf": "pdf", "text/csv": "csv", "application/csv": "csv", "application/msword": "doc",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
	"application/vnd.ms-excel": "xls",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
	"text/html": "html", "text/plain": "txt", "text/markdown": "md", "text/x-markdown": "md",
}

var documentExtension = map[string]string{
	".pdf": "pdf", ".csv": "csv", ".doc": "doc", ".docx": "docx", ".xls": "xls", ".xlsx": "xlsx",
	".html": "html", ".htm": "html", ".txt": "txt", ".md": "md", ".markdown": "md",
}

// documentFormat tells what a file is: first by its leading bytes, so that a
// wrong label does not fail the request, then by media type and name.
func documentFormat(mime, name string, head []byte) string {
	declared := documentMIME[mime]
	if declared == "" {
		declared = documentExtension[strings.ToLower(path.Ext(name))]
	}
	switch sniffed := sniffFormat(head); sniffed {
	case "pdf":
		return "pdf"
	case "zip": // the newer Office formats
		if byName := documentExtension[strings.ToLower(path.Ext(name))]; byName == "docx" || byName == "xlsx" {
			return byName
		}
		if declared == "docx" || declared == "xlsx" {
			return declared
		}
		return ""
	case "ole": // the older ones
		if declared == "doc" || declared == "xls" {
			return declared
		}
		return ""
	}
	if !looksLikeText(head) {
		return ""
	}
	switch declared {
	case "csv", "html", "txt", "md":
		return declared
	}
	return "txt"
}

func looksLikeText(head []byte) bool {
	return len(head) > 0 && bytes.IndexByte(head, 0) < 0 && bytes.IndexFunc(head, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' && r != '\f' && r != 0x1b }) < 0
}

// sniffFormat tells a format by its magic bytes; "" when there are none it knows.
func sniffFormat(head []byte) string {
	for _, magic := range []struct{ prefix, format string }{
		{"\x89PNG\r\n\x1a\n", "png"}, {"\xff\xd8\xff", "jpeg"}, {"GIF87a", "gif"}, {"GIF89a", "gif"},
		{"%PDF-", "pdf"}, {"PK\x03\x04", "zip"}, {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"}, {"BM", "bmp"},
		{"II*\x00", "tiff"}, {"MM\x00*", "tiff"},
	} {
		if bytes.HasPrefix(head, []byte(magic.prefix)) {
			return magic.format
		}
	}
	if len(head) >= 12 && string(head[:4]) == "RIFF" && string(head[8:12]) == "WEBP" {
		return "webp"
	}
	if len(head) >= 12 && string(head[4:8]) == "ftyp" {
		return "heic" // and avif: no model takes either
	}
	return ""
}

// firstBytes decodes the head of a base64 text.
func firstBytes(data string) []byte {
	head, _ := base64.StdEncoding.DecodeString(data[:min(len(data), 512)])
	return head
}

// splitDataURL takes data:<mime>[;k=v]*;base64,<payload> apart.
func splitDataURL(url string) (mime, data string, err error) {
	head, payload, ok := strings.Cut(url[len("data:"):], ",")
	params := strings.Split(head, ";")
	if !ok || !strings.EqualFold(strings.TrimSpace(params[len(params)-1]), "base64") {
		return "", "", refusef("expected data:<media type>;base64,<data>")
	}
	data, err = cleanBase64(payload)
	if err == nil && data == "" {
		err = refusef("the data: URL is empty")
	}
	return strings.ToLower(strings.TrimSpace(params[0])), data, err
}

// cleanBase64 returns s in the standard alphabet with its padding; it takes
// the URL-safe one, missing padding and line breaks.
func cleanBase64(s string) (string, error) {
	clean := len(s)%4 == 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '+', c == '/':
		case c == '=' && (i == len(s)-1 || i == len(s)-2 && s[i+1] == '='):
		case c == '-', c == '_', c == '\n', c == '\r', c == ' ', c == '\t', c == '=':
			clean = false
		default:
			return "", refusef("expected base64")
		}
	}
	if clean {
		return s, nil
	}
	s = strings.NewReplacer("-", "+", "_", "/", "\n", "", "\r", "", " ", "", "\t", "").Replace(s)
	s = strings.TrimRight(s, "=")
	if len(s)%4 == 1 || strings.Contains(s, "=") {
		return "", refusef("expected base64")
	}
	return s + strings.Repeat("=", (4-len(s)%4)%4), nil
}
