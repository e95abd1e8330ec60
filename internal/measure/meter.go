package measure

import (
	"regexp"
	"strings"
)

// Meter bounds what items cost at one model, in input tokens. The zero Meter
// is that of a model nothing is known of. It is a value: safe to share.
type Meter struct {
	family  *family
	context int64
}

// family is how one family of models counts media.
type family struct {
	match *regexp.Regexp // on the model's name in lower case
	// image bounds an image of known size, and greatest any image there is.
	image    func(w, h int64, detail string) int64
	greatest int64
	page     int64 // most tokens of a PDF's page as an image; text is added
	audio    int64 // tokens a second; 0: unknown
	video    int64 // tokens a second; 0: unknown
}

const (
	// unknownContext stands for a context window that nobody knows, where a
	// medium has no other bound: the largest in wide use.
	unknownContext = 1 << 20
	// pageText is what a page's text is taken to cost at least: 1,500 to 3,000
	// tokens (https://docs.claude.com/en/docs/build-with-claude/pdf-support).
	pageText = 3000
	// frame is what surrounds a file or image in a prompt: names, markers.
	frame = 64
)

// NewMeter returns the meter for a model at a provider, as the configuration
// names both. context is its context window in tokens, 0 when unknown.
func NewMeter(provider, model string, context int64) Meter {
	model = strings.ToLower(model)
	if context > 0 && longContext.MatchString(model) {
		context = max(context, 1_000_000)
	}
	for i := range families {
		if families[i].match.MatchString(model) {
			return Meter{&families[i], context}
		}
	}
	if provider == "openai" || provider == "azure" { // a deployment's own name may say nothing
		return Meter{&openAIUnknown, context}
	}
	return Meter{&unknown, context}
}

// Cap bounds the tokens of a whole prompt by the model's context window, where
// that is known: an upstream refuses what is longer.
func (m Meter) Cap(tokens int64) int64 {
	if m.context > 0 {
		return min(tokens, m.context)
	}
	return tokens
}

// Tokens bounds what the items cost together.
func (m Meter) Tokens(items []Item) int64 {
	total := int64(0)
	for i := range items {
		total += min(m.item(&items[i]), 1<<40)
	}
	return m.Cap(total)
}

// whole is what a medium costs that nothing but the context window bounds.
func (m Meter) whole() int64 {
	if m.context > 0 {
		return m.context
	}
	return unknownContext
}

func (m Meter) item(i *Item) int64 {
	f := m.family
	if f == nil {
		f = &unknown
	}
	switch {
	case i.Kind == Image && i.Measured:
		return frame + min(f.greatest, f.image(i.Width, i.Height, i.Detail))
	case i.Kind == Image:
		return frame + f.greatest
	case !i.Measured:
		return m.whole()
	case i.Kind == Text:
		return frame + i.Bytes
	case i.Kind == PDF:
		return frame + i.Pages*f.page + max(i.Pages*pageText, i.Bytes)
	case i.Kind == Audio && f.audio > 0:
		// Some encoders pad a sound to their window of 30 seconds.
		return frame + roundUp(max(i.Seconds, 30)*float64(f.audio))
	case i.Kind == Video && f.video > 0:
		return frame + roundUp((i.Seconds+1)*float64(f.video))
	}
	return m.whole()
}

// longContext are models that a header (anthropic-beta: context-1m-…) gives a
// context window of a million tokens.
var longContext = regexp.MustCompile(`claude-(sonnet|opus)-4`)

// families are tried in turn; the first whose expression fits counts.
//
// OpenAI: https://platform.openai.com/docs/guides/images-vision#calculating-costs
// (tiles of 512 pixels after scaling, or patches of 32 by 32 times a factor).
// Audio: 1 token for 100 ms of a user's speech (guides/realtime-costs).
//
// Anthropic: https://docs.claude.com/en/docs/build-with-claude/vision, width x
// height / 750, scaled to at most about 1,600 tokens; from Opus 4.7 on 4,784.
//
// Gemini: https://ai.google.dev/gemini-api/docs/tokens (258 a tile, 263 a second
// of video, 32 of audio) and docs/media-resolution for Gemini 3 (at most 2,240
// an image, 1,120 a page).
//
// Nova: https://docs.aws.amazon.com/nova/latest/userguide/modalities-image.html
// and modalities-video.html (about 2,600 for 1.3K x 1.3K; 2,880 for 10 s).
//
// Qwen VL: https://huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct (a token for 28 by
// 28 pixels, at most 16,384), audio 25 a second (Qwen2-Audio's report).
//
// Llama 4: https://huggingface.co/docs/transformers/model_doc/llama4 (144 a tile
// of 336, at most 16 and the whole); Llama 3.2 Vision: 1,601 a tile, at most 4.
//
// Pixtral and Mistral: https://docs.mistral.ai/capabilities/vision (patches of 16
// up to 1,024 by 1,024, a break for each row). Voxtral: 12.5 tokens a second.
//
// Grok: https://docs.x.ai/docs/guides/image-understanding (256 a tile of 448, at
// most 6, and one more).
var families = []family{
	openAITiles(`gpt-4o-mini`, 2833, 5667),
	openAIPatches(`gpt-4\.1-mini|gpt-5-mini`, 1.62, 1536),
	openAIPatches(`gpt-4\.1-nano|gpt-5-nano`, 2.46, 1536),
	openAIPatches(`o4-mini`, 1.72, 1536),
	openAITiles(`gpt-4o|chatgpt-4o|gpt-4\.1|gpt-4\.5|gpt-4-turbo|gpt-audio`, 85, 170),
	openAITiles(`(^|[/.:])o[13]([^a-z0-9]|$)`, 75, 150),
	openAITiles(`computer-use-preview`, 65, 129),
	openAITiles(`(^|[/.:])gpt-5(-chat|-codex|-pro|-2025[-0-9]*)?$|gpt-5\.1`, 70, 140),
	openAIPatches(`gpt-[5-9]`, 2.46, 10_000), // 5.2 and later: detail original has 10,000 patches
	{match: regexp.MustCompile(`claude-(3|(opus|sonnet|haiku)-4(-[0-6])?([^0-9-]|-[0-9]{8}|$)|(opus|sonnet|haiku)-4-[0-6]([^0-9]|$))`),
		image: claudeImage, greatest: 1640, page: 1640},
	{match: regexp.MustCompile(`claude`), image: claudeImage, greatest: 4784, page: 4784},
	{match: regexp.MustCompile(`gemini-(1|2)`), image: geminiTiles, greatest: 258 * 64, page: 258 * 6, audio: 32, video: 263 + 32},
	{match: regexp.MustCompile(`gemini`), image: constant(2240), greatest: 2240, page: 1120, audio: 32, video: 263 + 32},
	{match: regexp.MustCompile(`nova`), image: pixels(480), greatest: 16_384, page: 2600, video: 288},
	{match: regexp.MustCompile(`qwen|qvq`), image: squares(28), greatest: 16_384, page: 16_384, audio: 25},
	{match: regexp.MustCompile(`llama-?4`), image: constant(2640), greatest: 2640, page: 2640},
	{match: regexp.MustCompile(`llama`), image: constant(4 * 1601), greatest: 4 * 1601, page: 4 * 1601},
	{match: regexp.MustCompile(`voxtral`), image: constant(4224), greatest: 4224, page: 4224, audio: 13},
	{match: regexp.MustCompile(`pixtral|mistral|ministral|magistral`), image: squares(16), greatest: 4224, page: 4224},
	{match: regexp.MustCompile(`grok`), image: constant(7 * 256), greatest: 7 * 256, page: 7 * 256},
}

// openAIUnknown is an OpenAI model that no rule names: the dearest of them,
// gpt-4o-mini's tiles.
var openAIUnknown = openAITiles(``, 2833, 5667)

// unknown is any other model: a patch of 28 pixels a token, and no less than
// the encoders that tile small images as finely as large ones (LLaVA-NeXT: 2,880,
// InternVL: 3,328).
var unknown = family{match: regexp.MustCompile(``), greatest: 16_384, page: 4096,
	image: func(w, h int64, detail string) int64 { return max(4096, squares(28)(w, h, detail)) }}

func constant(n int64) func(w, h int64, detail string) int64 {
	return func(int64, int64, string) int64 { return n }
}

// pixels is a token for so many pixels.
func pixels(each int64) func(w, h int64, detail string) int64 {
	return func(w, h int64, _ string) int64 { return ceil(area(w, h), each) + frame }
}

// area is w x h, without overflow.
func area(w, h int64) int64 { return min(w, 1<<20) * min(h, 1<<20) }

// squares is a token for each square of that side, and one for each row.
func squares(side int64) func(w, h int64, detail string) int64 {
	return func(w, h int64, _ string) int64 {
		columns, rows := ceil(min(w, 1<<20), side), ceil(min(h, 1<<20), side)
		return (columns+1)*rows + frame
	}
}

// claudeImage is the rule of a pixel count, or that of patches of 28 where a
// thin image makes that the greater.
func claudeImage(w, h int64, _ string) int64 {
	return max(ceil(area(w, h), 750), ceil(min(w, 1<<20), 28)*ceil(min(h, 1<<20), 28)) + frame
}

// geminiTiles is 258 for an image within 384 by 384, else for each tile of
// two thirds of the shorter side, between 256 and 768 pixels.
func geminiTiles(w, h int64, _ string) int64 {
	if w <= 384 && h <= 384 {
		return 258
	}
	unit := max(256, min(768, min(w, h)*2/3))
	return ceil(w, unit) * ceil(h, unit) * 258
}

// openAITiles is base for detail low, else base and so much for each tile of
// 512 pixels: the image is fitted into 2048 by 2048, then its shorter side is
// made 768. A smaller image is taken to be scaled up, the dearer reading.
func openAITiles(match string, base, each int64) family {
	image := func(w, h int64, detail string) int64 {
		if detail == "low" {
			return base
		}
		short, long := float64(min(w, h)), float64(max(w, h))
		tiles := ceil(min(2048, roundUp(long/short*768)), 512) * 2
		return base + tiles*each
	}
	greatest := base + 8*each
	return family{match: regexp.MustCompile(match), image: image, greatest: greatest, page: greatest, audio: 10}
}

// openAIPatches is a token times factor for each patch of 32 pixels, most of
// them at the highest detail.
func openAIPatches(match string, factor float64, most int64) family {
	image := func(w, h int64, _ string) int64 {
		return roundUp(float64(ceil(min(w, 1<<20), 32)*ceil(min(h, 1<<20), 32)) * factor)
	}
	greatest := roundUp(float64(most) * factor)
	return family{match: regexp.MustCompile(match), image: image, greatest: greatest, page: roundUp(2500 * factor), audio: 10}
}
