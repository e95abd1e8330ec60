// Package measure bounds what the images, documents and sounds in a request cost
// in input tokens. It reads headers and lengths only, never pixels or samples,
// and where it cannot measure it says so. It is pure: bytes in, numbers out.
//
// What it returns is a bound, not an estimate: a client that means harm writes
// the file, so every count is the greatest that any reader could come to.
package measure

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"strings"

	"github.com/tidwall/gjson"
)

// Kind is what an item is to a model.
type Kind int

// Kinds of items.
const (
	Image Kind = iota
	Text       // a text file, or one whose text is extracted: Office formats
	PDF
	Audio
	Video
	Unknown // a file of unknown type: remote, encrypted, or not recognised
)

// Item is one image, file or sound of a request, measured.
type Item struct {
	Kind   Kind
	Inline int64 // bytes of the request body that hold it; its base64, not its URL
	// Measured is false where the size is unknown: the item is remote, or its
	// header does not say. The model's greatest counts then.
	Measured bool

	Width, Height int64   // of an image, in pixels
	Detail        string  // of an image or PDF: low, high, original, auto; "" when not given
	Bytes         int64   // of text, once decoded; of a PDF's text, from above
	Pages         int64   // of a PDF
	Seconds       float64 // of audio and video
}

// Measurer measures the parts of one request. It carries what the request may
// still spend on decompression, so that many small files cannot cost what one
// may not. The zero value is ready. Not safe for concurrent use.
type Measurer struct {
	inflated int64         // bytes decompressed so far
	zlib     io.ReadCloser // used again for each stream
}

// mostInflated is how many bytes a request's files may decompress to while they
// are measured; what is beyond counts as not measurable.
const mostInflated = 48 << 20

// maxNesting is how deep parts are looked for in parts: tool results hold
// documents, which hold images.
const maxNesting = 8

// Part measures what one content part holds: a part of chat completions
// (image_url, file, input_audio, video_url), of Responses (input_image,
// input_file, input_audio, function_call_output) or a block of Messages (image,
// document, tool_result). raw is valid JSON. A text part has no items. Names
// that are given twice count twice: nobody knows which one the provider reads.
func (m *Measurer) Part(raw []byte) []Item {
	w := walker{measurer: m}
	w.object(gjson.ParseBytes(raw), hints{}, 0)
	return w.items
}

// hints are what surrounds a payload and says what it may be.
type hints struct {
	kind   Kind
	known  bool // kind is said by the name that holds the payload
	mime   string
	name   string
	detail string
	plain  bool // "data" is text, not base64
	inside bool // in an object that holds media: "url" and "data" are payloads
}

// holders are the members whose value is, or holds, a medium.
var holders = map[string]Kind{
	"image_url": Image, "input_image": Image, "image": Image,
	"input_audio": Audio, "audio_url": Audio, "audio": Audio,
	"video_url": Video, "input_video": Video, "video": Video,
	"file": Unknown, "input_file": Unknown, "document": Unknown, "source": Unknown,
}

type walker struct {
	measurer *Measurer
	items    []Item
}

// object looks through a part, or through an object in it.
func (w *walker) object(v gjson.Result, h hints, depth int) {
	if depth > maxNesting || !v.IsObject() {
		return
	}
	h = describe(v, h)
	v.ForEach(func(key, value gjson.Result) bool {
		w.member(key.String(), value, h, depth)
		return true
	})
}

func (w *walker) member(name string, value gjson.Result, h hints, depth int) {
	kind, holder := holders[name]
	switch {
	case holder && value.Type == gjson.String:
		w.link(value, h.as(kind))
	case holder && value.IsArray(): // video frames
		value.ForEach(func(_, e gjson.Result) bool {
			if w.link(e, h.as(Image)); e.IsObject() {
				w.object(e, h.as(Image), depth+1)
			}
			return true
		})
	case holder:
		w.object(value, h.as(kind), depth+1)
	case name == "content" || name == "output":
		if value.IsObject() {
			w.object(value, hints{}, depth+1)
			return
		}
		if value.IsArray() {
			value.ForEach(func(_, e gjson.Result) bool {
				w.object(e, hints{}, depth+1)
				return true
			})
		}
	case name == "file_data", h.inside && (name == "data" || name == "bytes") && !h.plain:
		w.payload(value, h)
	case name == "file_url", name == "file_id" && value.String() != "",
		h.inside && (name == "url" || name == "uri"):
		w.link(value, h)
	}
}

// as are the hints inside a member that holds a medium.
func (h hints) as(kind Kind) hints {
	h.inside = true
	if kind != Unknown {
		h.kind, h.known = kind, true
	}
	return h
}

// describe adds what an object's own members say about its payload.
func describe(v gjson.Result, h hints) hints {
	v.ForEach(func(key, value gjson.Result) bool {
		if value.Type != gjson.String || len(value.Raw) > 1024 {
			return true
		}
		switch text := value.String(); key.String() {
		case "type":
			h = h.ofType(text)
		case "media_type", "mime_type", "format":
			h.mime = strings.ToLower(text)
		case "filename", "file_name", "title":
			h.name = text
		case "detail":
			h.detail = greaterDetail(h.detail, text)
		}
		return true
	})
	return h
}

func (h hints) ofType(name string) hints {
	switch name {
	case "text":
		h.plain = h.inside
	case "image", "input_image", "computer_screenshot":
		h.kind, h.known = Image, true
	}
	return h
}

// greaterDetail is the one that costs more, where detail is given twice.
func greaterDetail(a, b string) string {
	rank := map[string]int{"low": 1, "auto": 2, "high": 3, "original": 4}
	if a == "" || rank[b] > rank[a] || rank[b] == 0 {
		return b
	}
	return a
}

// link is a URL, which may be a data URL, or the id of an uploaded file.
func (w *walker) link(value gjson.Result, h hints) {
	if value.Type != gjson.String {
		return
	}
	if raw := value.Raw; len(raw) > 6 && strings.EqualFold(raw[1:6], "data:") || strings.Contains(raw[:min(len(raw), 64)], `\`) {
		w.payload(value, h)
		return
	}
	w.items = append(w.items, h.unmeasured(0))
}

// unmeasured is an item of which only the kind is known.
func (h hints) unmeasured(inline int64) Item {
	kind := Unknown
	if h.known {
		kind = h.kind
	}
	return Item{Kind: kind, Inline: inline, Detail: h.detail}
}

// payload is inline data: base64, or a data URL.
func (w *walker) payload(value gjson.Result, h hints) {
	if value.Type != gjson.String {
		return
	}
	inline := int64(max(0, len(value.Raw)-2))
	text, ok := unquoted(value.Raw)
	if !ok {
		w.items = append(w.items, h.unmeasured(inline))
		return
	}
	if len(text) >= 5 && strings.EqualFold(text[:5], "data:") {
		head, data, found := strings.Cut(text[5:], ",")
		mime, _, _ := strings.Cut(head, ";")
		if h.mime = strings.ToLower(mime); !found || !strings.HasSuffix(strings.ToLower(strings.TrimSpace(head)), "base64") {
			// Percent-encoded text, or nothing that any provider reads.
			w.items = append(w.items, h.unmeasured(inline))
			return
		}
		text = data
	} else if strings.Contains(text[:min(len(text), 16)], "://") {
		w.items = append(w.items, h.unmeasured(0))
		return
	}
	item := w.measurer.inline(text, h)
	item.Inline, item.Detail = inline, h.detail
	w.items = append(w.items, item)
}

// unquoted is what a JSON string means; without escapes it is a view of raw.
func unquoted(raw string) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' || raw[len(raw)-1] != '"' {
		return "", false
	}
	if strings.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], true
	}
	var text string
	err := json.Unmarshal([]byte(raw), &text)
	return text, err == nil
}

// headBytes is how much is decoded to tell what a file is.
const headBytes = 512

// inline measures base64 data.
func (m *Measurer) inline(data string, h hints) Item {
	encoding := encodingOf(data)
	head := decodeHead(encoding, data, headBytes)
	item := h.unmeasured(0)
	if len(head) == 0 {
		return item
	}
	switch format := sniff(head); format {
	case "png", "jpeg", "gif", "webp", "heif", "bmp":
		item.Kind = Image
		item.Width, item.Height = dimensions(format, newDecoder(encoding, data))
		item.Measured = item.Width > 0 && item.Height > 0
	case "wav", "mp3", "flac", "ogg", "mp4":
		if item.Kind != Video {
			item.Kind = Audio
		}
		if format == "mp4" && !strings.HasPrefix(h.mime, "audio/") && !h.known {
			item.Kind = Video
		}
		item.Seconds, item.Measured = m.seconds(format, decodeAll(encoding, data))
	case "pdf":
		item.Kind = PDF
		item.Pages, item.Bytes, item.Measured = m.pdf(decodeAll(encoding, data))
	case "zip":
		item.Kind = Text
		item.Bytes, item.Measured = m.office(decodeAll(encoding, data))
	case "text":
		if !h.known {
			item.Kind, item.Bytes = Text, int64(base64.RawStdEncoding.DecodedLen(len(data)))
			item.Measured = true
		}
	default:
		if strings.HasPrefix(h.mime, "video/") {
			item.Kind = Video
		}
	}
	return item
}

// sniff tells a format by its first bytes; "" when it knows none.
func sniff(head []byte) string {
	for _, magic := range []struct{ prefix, format string }{
		{"\x89PNG\r\n\x1a\n", "png"}, {"\xff\xd8\xff", "jpeg"}, {"GIF8", "gif"}, {"BM", "bmp"},
		{"PK\x03\x04", "zip"}, {"fLaC", "flac"}, {"OggS", "ogg"}, {"ID3", "mp3"},
	} {
		if strings.HasPrefix(string(head), magic.prefix) {
			return magic.format
		}
	}
	switch {
	case len(head) >= 12 && string(head[:4]) == "RIFF" && string(head[8:12]) == "WEBP":
		return "webp"
	case len(head) >= 12 && (string(head[:4]) == "RIFF" || string(head[:4]) == "RF64") && string(head[8:12]) == "WAVE":
		return "wav"
	case len(head) >= 12 && string(head[4:8]) == "ftyp":
		return brand(head)
	case strings.Contains(string(head), "%PDF-"): // readers accept it within the first kilobyte
		return "pdf"
	case isMP3(head):
		return "mp3"
	case isText(head):
		return "text"
	}
	return ""
}

// brand tells the formats apart that share the ISO base media container.
func brand(head []byte) string {
	for i := 8; i+4 <= min(len(head), 40); i += 4 {
		switch string(head[i : i+4]) {
		case "heic", "heix", "mif1", "msf1", "avif", "avis", "hevc":
			return "heif"
		}
	}
	return "mp4"
}

func isText(head []byte) bool {
	for _, c := range head {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f' && c != 0x1b {
			return false
		}
	}
	return true
}

// ceil is a/b rounded up, for positive numbers.
func ceil(a, b int64) int64 { return (a + b - 1) / b }

// roundUp is the whole number of tokens that covers f, without overflow.
func roundUp(f float64) int64 {
	if !(f < 1<<53) {
		return 1 << 53
	}
	return int64(math.Ceil(f))
}
