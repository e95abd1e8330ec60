package translate

import (
	"github.com/inference-router/inference-router/internal/rawjson"

	"github.com/tidwall/gjson"
)

// completionsToChat writes a legacy completions request as a chat request: the
// prompt is a user's turn.
func completionsToChat(body []byte) (out []byte, dropped []string, err error) {
	root := gjson.ParseBytes(body)
	var t rawjson.Writer
	t.Object()
	var invalid error
	root.ForEach(func(k, v gjson.Result) bool {
		if v.Type == gjson.Null {
			return true
		}
		switch name := k.Str; name {
		case "model", "max_tokens", "temperature", "top_p", "stream", "stream_options", "stop", "seed",
			"presence_penalty", "frequency_penalty", "logit_bias", "user", "metadata", "usage":
			t.RawMember(name, v.Raw)
		case "prompt":
			invalid = within(name, completionsPrompt(&t, v))
		case "suffix", "echo":
			if v.Type == gjson.False || v.Str == "" && v.Type == gjson.String {
				return true
			}
			invalid = within(name, refusef("this model only continues a chat; send the text in prompt"))
		case "n", "best_of":
			if v.Num > 1 {
				invalid = within(name, refusef("one completion a request is what this route returns; send several requests"))
			}
		case "logprobs":
			if v.Num > 0 {
				dropped = append(dropped, name)
			}
		default:
			dropped = append(dropped, name)
		}
		return invalid == nil
	})
	t.EndObject()
	return t, dropped, invalid
}

// completionsPrompt writes the messages that a prompt stands for.
func completionsPrompt(t *rawjson.Writer, v gjson.Result) error {
	text := v
	if list := v.Array(); v.IsArray() {
		switch {
		case len(list) != 1 && (len(list) == 0 || list[0].Type == gjson.String):
			return refusef("expected one prompt, got %d: send a request for each", len(list))
		case list[0].Type != gjson.String:
			return refusef("tokens mean nothing to the model that may answer; send the prompt as text")
		}
		text = list[0]
	}
	if text.Type != gjson.String {
		return wrongType(v, "a string")
	}
	t.OpenArray("messages")
	t.Object()
	t.StringMember("role", "user")
	t.StringMember("content", text.Str)
	t.EndObject()
	t.EndArray()
	return nil
}

// completionsWriter writes text completions from chat chunks.
type completionsWriter struct {
	t          *dialectStream
	head       AnswerHead
	usageAsked bool
	text       []byte
	tail       []byte
}

func (w *completionsWriter) begin() { w.t.created = w.head.ID }

func (w *completionsWriter) start(t *rawjson.Writer) {
	t.Object()
	t.StringMember("id", w.head.ID)
	t.StringMember("object", "text_completion")
	t.IntMember("created", w.head.Created)
	t.StringMember("model", w.head.Model)
}

func (w *completionsWriter) choice(t *rawjson.Writer, text, finish string) {
	t.OpenArray("choices")
	t.Object()
	t.IntMember("index", 0)
	t.StringMember("text", text)
	t.RawMember("logprobs", "null")
	if finish == "" {
		t.RawMember("finish_reason", "null")
	} else {
		t.StringMember("finish_reason", finish)
	}
	t.EndObject()
	t.EndArray()
}

// send writes one event.
func (w *completionsWriter) send(write func(t *rawjson.Writer)) {
	var t rawjson.Writer
	w.start(&t)
	write(&t)
	t.EndObject()
	from := len(w.t.buf)
	w.t.buf = append(w.t.buf, t...)
	w.t.emit("", from, 0)
}

func (w *completionsWriter) piece(p piece) {
	if p.kind != pieceText && p.kind != pieceRefusal {
		return
	}
	w.text = append(w.text, p.text...)
	w.send(func(t *rawjson.Writer) { w.choice(t, p.text, "") })
}

func (w *completionsWriter) end(finish string, u *Usage) {
	if finish != "length" && finish != "content_filter" {
		finish = "stop"
	}
	w.send(func(t *rawjson.Writer) { w.choice(t, "", finish) })
	if w.usageAsked && u != nil {
		w.send(func(t *rawjson.Writer) {
			t.RawMember("choices", "[]")
			writeUsage(t, ending{usage: u})
		})
	}
	var t rawjson.Writer
	w.start(&t)
	w.choice(&t, string(w.text), finish)
	if u != nil {
		writeUsage(&t, ending{usage: u})
	}
	t.EndObject()
	w.tail = t
}

func (w *completionsWriter) whole() []byte { return w.tail }
