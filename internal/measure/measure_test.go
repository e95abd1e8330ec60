package measure_test

import (
	"archive/zip"
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/internal/measure"
)

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func partItems(t *testing.T, part string) []measure.Item {
	t.Helper()
	if !json.Valid([]byte(part)) {
		t.Fatalf("not JSON: %.200s", part)
	}
	return new(measure.Measurer).Part([]byte(part))
}

func one(t *testing.T, part string) measure.Item {
	t.Helper()
	items := partItems(t, part)
	if len(items) != 1 {
		t.Fatalf("got %d items, expected 1: %+v", len(items), items)
	}
	return items[0]
}

func picture(t *testing.T, format string, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	img := image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.Black, color.White})
	var err error
	switch format {
	case "png":
		err = png.Encode(&b, img)
	case "jpeg":
		err = jpeg.Encode(&b, img, nil)
	case "gif":
		err = gif.Encode(&b, img, nil)
	case "webp": // a canvas; the frames do not matter to a header's reader
		b.WriteString("RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00")
		b.Write([]byte{byte(w - 1), byte((w - 1) >> 8), 0, byte(h - 1), byte((h - 1) >> 8), 0})
	case "avif":
		b.WriteString("\x00\x00\x00\x14ftypavif\x00\x00\x00\x00mif1\x00\x00\x00\x14ispe\x00\x00\x00\x00")
		b.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(w)), uint32(h)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAnImageIsMeasuredByItsHeaderInEveryDialect(t *testing.T) {
	for _, format := range []string{"png", "jpeg", "gif", "webp", "avif"} {
		data := encode(picture(t, format, 640, 333))
		for dialect, part := range map[string]string{
			"chat":          `{"type":"image_url","image_url":{"url":"data:image/%[1]s;base64,%[2]s","detail":"high"}}`,
			"bare string":   `{"type":"image_url","image_url":"data:image/%[1]s;base64,%[2]s","detail":"high"}`,
			"Responses":     `{"type":"input_image","detail":"high","image_url":"data:image/%[1]s;base64,%[2]s"}`,
			"Messages":      `{"type":"image","detail":"high","source":{"type":"base64","media_type":"image/%[1]s","data":"%[2]s"}}`,
			"tool result":   `{"type":"tool_result","content":[{"type":"text","text":"here"},{"type":"image","detail":"high","source":{"type":"base64","media_type":"image/%[1]s","data":"%[2]s"}}]}`,
			"call output":   `{"type":"function_call_output","output":[{"type":"input_image","detail":"high","image_url":"data:image/%[1]s;base64,%[2]s"}]}`,
			"as a file":     `{"type":"file","file":{"filename":"a.txt","detail":"high","file_data":"%[2]s"}}`,
			"wrong label":   `{"type":"image_url","image_url":{"url":"data:text/plain;base64,%[2]s","detail":"high"}}`,
			"escaped slash": `{"type":"image_url","image_url":{"url":"data:image\/png;base64,%[2]s","detail":"high"}}`,
		} {
			item := one(t, fmt.Sprintf(part, format, data))
			if item.Kind != measure.Image || !item.Measured || item.Width != 640 || item.Height != 333 || item.Detail != "high" {
				t.Errorf("%s, %s: %+v", format, dialect, item)
			}
			if item.Inline < int64(len(data)) {
				t.Errorf("%s, %s: %d bytes inline, the data has %d", format, dialect, item.Inline, len(data))
			}
		}
	}
}

func TestWhatIsRemoteOrBrokenIsNotMeasured(t *testing.T) {
	for _, part := range []string{
		`{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}`,
		`{"type":"input_image","file_id":"file-1"}`,
		`{"type":"input_file","file_url":"https://example.com/a.pdf"}`,
		`{"type":"file","file":{"file_id":"file-1"}}`,
		`{"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}}`,
		`{"type":"image","source":{"type":"file","file_id":"file_1"}}`,
		`{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}`,
		`{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}`,
		`{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}`,
		`{"type":"file","file":{"file_data":"data:application/pdf;base64,JVBERi0xLjcK"}}`,
	} {
		if item := one(t, part); item.Measured {
			t.Errorf("%s: %+v", part, item)
		}
	}
}

func TestNamesThatAreGivenTwiceCountTwice(t *testing.T) {
	small, large := encode(picture(t, "png", 8, 8)), encode(picture(t, "png", 2000, 2000))
	items := partItems(t, `{"type":"image_url","image_url":{"url":"data:image/png;base64,`+small+`","url":"data:image/png;base64,`+large+`"}}`)
	if len(items) != 2 {
		t.Fatalf("%+v", items)
	}
	text := partItems(t, `{"type":"output_text","text":"see","annotations":[{"type":"url_citation","url":"https://example.com"}]}`)
	if len(text) != 0 {
		t.Errorf("a citation is no file: %+v", text)
	}
}

func TestTextFilesCountTheirDecodedBytes(t *testing.T) {
	text := strings.Repeat("all work and no play\n", 1000)
	for _, part := range []string{
		`{"type":"file","file":{"filename":"a.txt","file_data":"data:text/plain;base64,` + encode([]byte(text)) + `"}}`,
		`{"type":"input_file","filename":"a.md","file_data":"` + encode([]byte(text)) + `"}`,
	} {
		if item := one(t, part); item.Kind != measure.Text || !item.Measured || item.Bytes < int64(len(text)) || item.Bytes > int64(len(text))+4 {
			t.Errorf("%+v, the text has %d bytes", item, len(text))
		}
	}
	if items := partItems(t, `{"type":"document","source":{"type":"text","media_type":"text/plain","data":"plain words"}}`); len(items) != 0 {
		t.Errorf("plain text is counted with the body: %+v", items)
	}
	var office bytes.Buffer
	z := zip.NewWriter(&office)
	f, _ := z.Create("word/document.xml")
	_, _ = f.Write([]byte(text))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if item := one(t, `{"type":"file","file":{"filename":"a.docx","file_data":"`+encode(office.Bytes())+`"}}`); item.Kind != measure.Text || item.Bytes != int64(len(text)) {
		t.Errorf("a compressed document: %+v", item)
	}
}

func deflate(b []byte) []byte {
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

// document is a PDF of n pages; with compressed, its objects are in a stream.
func document(n int, compressed bool, words string) []byte {
	var kids, objects strings.Builder
	for i := range n {
		fmt.Fprintf(&kids, "%d 0 R ", i+10)
		fmt.Fprintf(&objects, "%d 0 obj\n<< /Type /Page /Parent 2 0 R /Contents 5 0 R >>\nendobj\n", i+10)
	}
	tree := fmt.Sprintf("<< /Type /Pages /Kids [%s] /Count %d >>", kids.String(), n)
	var b bytes.Buffer
	b.WriteString("%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n")
	content := deflate([]byte("BT (" + words + ") Tj ET"))
	fmt.Fprintf(&b, "5 0 obj\n<< /Filter /FlateDecode /Length %d >>\nstream\n%s\nendstream\nendobj\n", len(content), content)
	if compressed {
		packed := deflate([]byte(tree + objects.String()))
		fmt.Fprintf(&b, "6 0 obj\n<< /Type /ObjStm /N 3 /First 0 /Filter /FlateDecode /Length %d >>\nstream\r\n%s\nendstream\nendobj\n", len(packed), packed)
	} else {
		b.WriteString("2 0 obj\n" + tree + "\nendobj\n" + objects.String())
	}
	b.WriteString("trailer << /Root 1 0 R >>\n%%EOF\n")
	return b.Bytes()
}

func file(b []byte) string {
	return `{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,` + encode(b) + `"}}`
}

func TestPDFPagesAreCountedAlsoInsideObjectStreams(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		for _, n := range []int{1, 7, 300} {
			item := one(t, file(document(n, compressed, "hello")))
			if item.Kind != measure.PDF || !item.Measured || item.Pages != int64(n) {
				t.Errorf("%d pages, compressed %v: %+v", n, compressed, item)
			}
		}
	}
	words := strings.Repeat("word ", 100_000)
	if item := one(t, file(document(1, false, words))); item.Bytes < int64(len(words)) {
		t.Errorf("a page with %d bytes of text: %+v", len(words), item)
	}
}

func TestPDFsThatHidePagesAreNotMeasured(t *testing.T) {
	plain := string(document(3, false, "x"))
	for name, change := range map[string][2]string{
		"encrypted":                {"trailer <<", "trailer << /Encrypt 9 0 R"},
		"an escaped name":          {"/Kids [", "/K#69ds ["},
		"kids elsewhere":           {"/Kids [10 0 R 11 0 R 12 0 R ]", "/Kids 7 0 R"},
		"one page many times over": {"/Kids [", "/Kids [10 0 R 10 0 R 10 0 R 10 0 R 10 0 R 10 0 R "},
		"a rare filter":            {"/FlateDecode", "/LZWDecode"},
	} {
		if !strings.Contains(plain, change[0]) {
			t.Fatal(name)
		}
		if item := one(t, file([]byte(strings.Replace(plain, change[0], change[1], 1)))); item.Measured {
			t.Errorf("%s: %+v", name, item)
		}
	}
	if item := one(t, file([]byte(strings.Replace(plain, "/Count 3", "/Count 900", 1)))); item.Measured && item.Pages < 900 {
		t.Errorf("claims 900 pages: %+v", item)
	}
	bomb := document(1, false, strings.Repeat("a", 64<<20))
	if item := one(t, file(bomb)); item.Measured {
		t.Errorf("a bomb of %d bytes: %+v", len(bomb), item)
	}
}

func wav(seconds float64, declared uint32) []byte {
	const rate, channels, depth = 16000, 1, 16
	var b bytes.Buffer
	le := binary.LittleEndian
	b.WriteString("RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00\x01\x00")
	b.Write(le.AppendUint16(nil, channels))
	b.Write(le.AppendUint32(nil, rate))
	b.Write(le.AppendUint32(nil, 1)) // a byte rate that lies
	b.Write(le.AppendUint16(nil, 2))
	b.Write(le.AppendUint16(nil, depth))
	b.WriteString("data")
	b.Write(le.AppendUint32(nil, declared))
	b.Write(make([]byte, int(seconds*rate*channels*depth/8)))
	return b.Bytes()
}

// mp3 is so many frames of MPEG 1 layer III, 128 kbit/s at 44.1 kHz.
func mp3(frames int) []byte {
	frame := append([]byte{0xff, 0xfb, 0x90, 0x00}, make([]byte, 413)...)
	return bytes.Repeat(frame, frames)
}

// opus is an Ogg stream of so many packets of 60 ms in one byte each.
func opus(packets int) []byte {
	page := func(granule uint64, packets ...[]byte) []byte {
		b := append([]byte("OggS\x00\x00"), binary.LittleEndian.AppendUint64(nil, granule)...)
		b = append(b, make([]byte, 12)...)
		b = append(b, byte(len(packets)))
		for _, p := range packets {
			b = append(b, byte(len(p)))
		}
		return append(b, bytes.Join(packets, nil)...)
	}
	b := page(0, []byte("OpusHead\x01\x01\x00\x00\x80\xbb\x00\x00\x00\x00\x00"))
	b = append(b, page(0, []byte("OpusTags"))...)
	for range packets {
		b = append(b, page(1, []byte{3 << 3})...) // a time stamp that lies
	}
	return b
}

func TestSoundIsMeasuredByItsDataNotByWhatItsHeaderClaims(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want float64
	}{
		"wav":             {wav(90, 90*32000), 90},
		"wav, streamed":   {wav(90, 0), 90},
		"mp3":             {mp3(1000), 1000 * 1152.0 / 44100},
		"opus, one byte":  {opus(500), 30},
		"mp3 after a tag": {append([]byte("ID3\x04\x00\x00\x00\x00\x00\x00"), mp3(100)...), 100 * 1152.0 / 44100},
		"m4a":             {movie(12345), 12.345},
	} {
		item := one(t, `{"type":"input_audio","input_audio":{"data":"`+encode(c.data)+`","format":"wav"}}`)
		if item.Kind != measure.Audio || !item.Measured || math.Abs(item.Seconds-c.want) > 0.1 {
			t.Errorf("%s: %+v, expected %v s", name, item, c.want)
		}
	}
}

// movie is an MP4 file's head of so many milliseconds.
func movie(ms uint32) []byte {
	be := binary.BigEndian
	header := append(make([]byte, 12), be.AppendUint32(be.AppendUint32(nil, 1000), ms)...)
	header = append(header, make([]byte, 80)...)
	mvhd := append(append(be.AppendUint32(nil, uint32(len(header)+8)), "mvhd"...), header...)
	moov := append(append(be.AppendUint32(nil, uint32(len(mvhd)+8)), "moov"...), mvhd...)
	return append([]byte("\x00\x00\x00\x10ftypisom\x00\x00\x00\x00"), moov...)
}

func TestFLACOfSilenceIsAsLongAsItsBlocks(t *testing.T) {
	info := make([]byte, 34)
	info[10], info[11], info[12] = 0x0a, 0xc4, 0x42 // 44.1 kHz, stereo
	b := append([]byte("fLaC\x80\x00\x00\x22"), info...)
	header := []byte{0xff, 0xf8, 0xc9, 0x18, 0x00} // 4,096 samples, frame 0
	sum := byte(0)
	for _, c := range header {
		sum ^= c
		for range 8 {
			if carry := sum & 0x80; carry != 0 {
				sum = sum<<1 ^ 0x07
			} else {
				sum <<= 1
			}
		}
	}
	for range 1000 {
		b = append(append(b, header...), sum, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	item := one(t, `{"type":"input_audio","input_audio":{"data":"`+encode(b)+`","format":"flac"}}`)
	if want := 1000 * 4096 / 44100.0; !item.Measured || math.Abs(item.Seconds-want) > 0.1 {
		t.Errorf("%+v, expected %v s", item, want)
	}
}

func TestMetersFollowTheProvidersPublishedExamples(t *testing.T) {
	img := func(w, h int64, detail string) measure.Item {
		return measure.Item{Kind: measure.Image, Measured: true, Width: w, Height: h, Detail: detail}
	}
	for _, c := range []struct {
		provider, model string
		item            measure.Item
		billed          int64 // by the provider's own example
		most            int64 // and how far the bound may be from it
	}{
		// OpenAI's guide to vision.
		{"openai", "gpt-4o", img(1024, 1024, "high"), 765, 900},
		{"openai", "gpt-4o", img(2048, 4096, "high"), 1105, 1500},
		{"openai", "gpt-4o", img(4096, 8192, "low"), 85, 160},
		{"openai", "gpt-4o-mini", img(1024, 1024, ""), 25501, 26000},
		{"azure", "our-own-name", img(1024, 1024, ""), 25501, 26000},
		{"openai", "gpt-5", img(1024, 1024, "auto"), 630, 700},
		{"openai", "o3", img(1024, 1024, "auto"), 675, 750},
		{"openai", "gpt-4.1-mini", img(1024, 1024, ""), 1659, 1800},
		{"openai", "gpt-4.1-nano", img(1800, 2400, ""), 3572, 3900},
		{"openrouter", "openai/gpt-4o", img(1024, 1024, "high"), 765, 900},
		// Anthropic's.
		{"anthropic", "claude-sonnet-4-5", img(200, 200, ""), 54, 250},
		{"anthropic", "claude-sonnet-4-5", img(1000, 1000, ""), 1334, 1500},
		{"anthropic", "claude-sonnet-4-5", img(8000, 8000, ""), 1600, 1800},
		{"bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", img(8000, 8000, ""), 1600, 1800},
		{"anthropic", "claude-opus-4-7", img(8000, 8000, ""), 4784, 4900},
		{"anthropic", "claude-sonnet-5", img(8000, 8000, ""), 4784, 4900},
		// Google's.
		{"gemini", "gemini-2.5-flash", img(300, 300, ""), 258, 400},
		{"gemini", "gemini-2.5-flash", img(960, 540, ""), 6 * 258, 2000},
		{"gemini", "gemini-3-pro-preview", img(960, 540, ""), 1120, 2400},
		// AWS's.
		{"bedrock", "amazon.nova-lite-v1:0", img(900, 450, ""), 800, 1200},
		{"bedrock", "amazon.nova-lite-v1:0", img(1300, 1300, ""), 2600, 4000},
		{"gemini", "gemini-2.5-flash", measure.Item{Kind: measure.Audio, Measured: true, Seconds: 60}, 1920, 2100},
		{"openai", "gpt-4o-audio-preview", measure.Item{Kind: measure.Audio, Measured: true, Seconds: 60}, 600, 700},
		{"bedrock", "amazon.nova-pro-v1:0", measure.Item{Kind: measure.Video, Measured: true, Seconds: 30}, 8640, 9500},
		{"anthropic", "claude-sonnet-4-5", measure.Item{Kind: measure.PDF, Measured: true, Pages: 10}, 46000, 48000},
		{"openai", "gpt-4o", measure.Item{Kind: measure.Text, Measured: true, Bytes: 5000}, 5000, 5100},
	} {
		got := measure.NewMeter(c.provider, c.model, 0).Tokens([]measure.Item{c.item})
		if got < c.billed || got > c.most {
			t.Errorf("%s, %+v: bound %d, billed %d, expected at most %d", c.model, c.item, got, c.billed, c.most)
		}
	}
}

func TestWhatIsNotMeasuredCostsTheGreatestThereIs(t *testing.T) {
	meter := measure.NewMeter("anthropic", "claude-haiku-4-5", 200_000)
	if got := meter.Tokens([]measure.Item{{Kind: measure.Image}}); got < 1600 || got > 1800 {
		t.Errorf("a remote image: %d", got)
	}
	for _, kind := range []measure.Kind{measure.PDF, measure.Audio, measure.Video, measure.Text, measure.Unknown} {
		if got := meter.Tokens([]measure.Item{{Kind: kind}}); got != 200_000 {
			t.Errorf("kind %d: %d, expected the context window", kind, got)
		}
	}
	if got := meter.Tokens(make([]measure.Item, 8192)); got != 200_000 {
		t.Errorf("many images: %d, expected no more than the context window", got)
	}
	if got := (measure.Meter{}).Tokens([]measure.Item{{Kind: measure.Image, Measured: true, Width: math.MaxUint32, Height: math.MaxUint32}}); got < 4096 || got > 20_000 {
		t.Errorf("an absurd image at an unknown model: %d", got)
	}
}

// FuzzPart feeds foreign files: no panic, no negative count, and bounded
// decompression whatever they hold.
func FuzzPart(f *testing.F) {
	f.Add(document(2, true, "x"), "application/pdf")
	f.Add(wav(1, 0), "audio/wav")
	f.Add(mp3(3), "audio/mp3")
	f.Add(opus(2), "audio/ogg")
	f.Add(movie(5), "video/mp4")
	f.Add([]byte("fLaC\x80\x00\x00\x22"), "audio/flac")
	f.Add([]byte("\xff\xd8\xff\xc0\x00\x07\x08\x00\x01\x00\x01"), "image/jpeg")
	f.Add([]byte("PK\x03\x04"), "application/zip")
	f.Fuzz(func(t *testing.T, data []byte, mime string) {
		quoted, _ := json.Marshal("data:" + mime + ";base64," + encode(data))
		for _, part := range []string{
			`{"type":"file","file":{"file_data":` + string(quoted) + `}}`,
			`{"type":"input_audio","input_audio":{"data":` + string(quoted) + `}}`,
			`{"type":"image_url","image_url":` + string(quoted) + `}`,
		} {
			for _, item := range new(measure.Measurer).Part([]byte(part)) {
				if item.Width < 0 || item.Height < 0 || item.Bytes < 0 || item.Pages < 0 || item.Seconds < 0 || item.Inline < 0 {
					t.Errorf("%+v", item)
				}
				for _, model := range []string{"gpt-4o", "claude-3", "gemini-2.5-pro", "other"} {
					if n := measure.NewMeter("", model, 0).Tokens([]measure.Item{item}); n <= 0 {
						t.Errorf("%s: %d tokens for %+v", model, n, item)
					}
				}
			}
		}
	})
}

func BenchmarkImageHeader(b *testing.B) {
	var buffer bytes.Buffer
	if err := jpeg.Encode(&buffer, image.NewRGBA(image.Rect(0, 0, 3000, 3000)), &jpeg.Options{Quality: 100}); err != nil {
		b.Fatal(err)
	}
	part := []byte(`{"type":"image_url","image_url":{"url":"data:image/jpeg;base64,` + encode(buffer.Bytes()) + `"}}`)
	b.SetBytes(int64(len(part)))
	for b.Loop() {
		new(measure.Measurer).Part(part)
	}
}

func BenchmarkHostilePDF(b *testing.B) {
	for name, unit := range map[string]string{"streams": "stream\n", "names": "/Type/Page ", "kids": "/Kids[", "objects": "obj<</Filter/FlateDecode>>stream\nx\x9c"} {
		part := []byte(file([]byte("%PDF-1.7" + strings.Repeat(unit, 20<<20/len(unit)))))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(part)))
			for b.Loop() {
				new(measure.Measurer).Part(part)
			}
		})
	}
}
