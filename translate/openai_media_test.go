package translate_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/internal/measure"
	"github.com/inference-router/inference-router/translate"
)

func TestInlineMediaCountByWhatTheyHoldNotAsText(t *testing.T) {
	text := strings.Repeat("a line of a report\n", 5000)
	file := base64.StdEncoding.EncodeToString([]byte(text))
	body := fmt.Sprintf(`{"model":"auto","messages":[{"role":"user","content":[{"type":"text","text":"sum it up"},
		{"type":"file","file":{"filename":"r.txt","file_data":"data:text/plain;base64,%s"}},
		{"type":"image_url","image_url":{"url":"https://example.com/a.png"}},
		{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}]},
		{"role":"assistant","audio":{"id":"audio_1"},"content":null},
		{"role":"tool","tool_call_id":"c","content":[{"type":"image_url","image_url":{"url":"https://example.com/b.png"}}]}]}`, file)
	r, err := translate.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[measure.Kind]int{}
	for _, item := range r.Media {
		kinds[item.Kind]++
	}
	if kinds[measure.Text] != 1 || kinds[measure.Image] != 2 || kinds[measure.Video] != 1 || kinds[measure.Audio] != 1 {
		t.Errorf("measured %+v", r.Media)
	}
	if r.InputBytes > 2000 || r.InputBytes < int64(len(body)-len(file)-100) {
		t.Errorf("%d bytes of text beside the file's %d", r.InputBytes, len(file))
	}
	if r.Images != 2 || r.Files != 2 || r.Audio != 1 {
		t.Errorf("images %d, files %d, audio %d", r.Images, r.Files, r.Audio)
	}
}
