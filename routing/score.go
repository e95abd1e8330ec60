package routing

import (
	"math"
	"strings"
	"unicode/utf8"
)

// How much of a prompt is read.
const (
	scanHead  = 6 << 10 // bytes from its start
	scanTail  = 1 << 10 // and from its end
	longText  = 1200    // above that, what is asked is looked for
	askHead   = 700
	askTail   = 500
	askLine   = 400 // a longer line is no question and no heading
	shortLook = 20  // tokens of a plain look-up
	longLook  = 60
	fadeStart = 20 // tokens from which keywords begin to say less
)

// ScorePrompt scores the newest user turn: 0 for the simplest, 10 for the most
// complex. It sees the text alone, never the system prompt or the history.
func ScorePrompt(text string) Score {
	s := read(text)
	return s.score()
}

// scan is what one pass over a prompt has counted.
type scan struct {
	words, letters   int
	wides            int // runes of scripts without spaces
	foreign          int // letters of scripts the lexicon does not know
	fenced           int // bytes of fenced blocks
	fences           int
	sentences        int
	commas           int
	questions        int
	signs            int // of formulas
	syntax           int // lines that look like code
	numbers          int
	connectives      int
	constraints      int
	nouns            int // of code
	makes            int // verbs that make code
	writes, explains int
	analyses         int
	compares         int
	versus           int // comparison nouns
	against          int // words between what is compared
	brief, transform bool
	closing          bool // the text is long, and one line of it asks
	lookup, greeting bool
	quantities       int
	follow, with     int // words of a follow-up

	// The state of the pass.
	sizes     bool // only sizes are wanted, words mean nothing
	start     bool // the next word stands where a verb is an imperative
	content   bool // a word of substance was met
	pending   bool // a comparison noun waits for what is compared
	matters   int  // words that tell what it is about
	small     bool // the last word was a small number
	strange   bool // the first word is not in the lexicon
	explained int  // the word that was counted as explains
	back      [3]past
}

// past is an earlier word, the latest first.
type past struct {
	hash  uint64
	start bool
}

// read scans what there is time for, and takes words only where something may
// be asked.
func read(text string) scan {
	s := scan{start: true, explained: -9}
	if len(text) <= longText {
		s.text(text)
		s.mendFirst(text)
		return s
	}
	head, tail := text, ""
	if len(text) > scanHead+scanTail {
		head, tail = text[:boundary(text, scanHead)], text[boundary(text, len(text)-scanTail):]
	}
	a, b := ask(text)
	s.closing = b == ""
	s.text(a)
	s.mendFirst(a)
	if b != "" {
		s.sentence()
		s.text(b)
	}
	whole := scan{sizes: true}
	whole.text(head)
	whole.text(tail)
	s.stretch(&whole, len(text), len(head)+len(tail))
	return s
}

// mendFirst looks at the first word again if nothing is known of it: where a
// prompt has its verb, a slip of the finger must not lose it.
func (s *scan) mendFirst(text string) {
	if !s.strange {
		return
	}
	from := 0
	for from < len(text) && (text[from] >= utf8.RuneSelf || ascii[text[from]] == 0) {
		from++
	}
	to := from
	for to < len(text) && text[to] < utf8.RuneSelf && ascii[text[to]] != 0 {
		to++
	}
	s.verb(mend(text[from:to]))
}

// stretch takes the size from the whole text, of which only part was read.
func (s *scan) stretch(whole *scan, size, part int) {
	scale := func(n int) int { return int(int64(n) * int64(size) / int64(part)) }
	s.words, s.letters, s.wides = scale(whole.words), scale(whole.letters), scale(whole.wides)
	s.sentences, s.commas = scale(whole.sentences), scale(whole.commas)
	s.foreign, s.fenced = scale(whole.foreign), scale(whole.fenced)
	s.fences, s.syntax, s.signs = max(s.fences, whole.fences), whole.syntax, whole.signs
}

// boundary moves i back to the start of a rune.
func boundary(s string, i int) int {
	for i > 0 && i < len(s) && !utf8.RuneStart(s[i]) {
		i--
	}
	return i
}

// around is what may stand around a prompt without meaning anything.
const around = " \t\r\n\u00a0\"'\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"

// ask finds what a long text asks for: a closing question, the line before a
// paste, or else somewhere in its beginning and its end.
func ask(text string) (a, b string) {
	last := text[len(text)-min(len(text), longText):]
	body := strings.TrimRight(last, around)
	if strings.HasSuffix(body, "?") || strings.HasSuffix(body, "？") || strings.HasSuffix(body, "؟") {
		if line := body[strings.LastIndexByte(body, '\n')+1:]; len(line) <= askLine && len(line) < len(body) {
			return line, ""
		}
	}
	top := strings.TrimLeft(text[:askLine], around)
	line, _, more := strings.Cut(top, "\n")
	line = strings.TrimRight(line, " \t\r")
	if more && (strings.HasSuffix(line, ":") || strings.HasSuffix(line, "：")) {
		return line, ""
	}
	return text[:boundary(text, askHead)], text[boundary(text, len(text)-askTail):]
}

// text is the pass over a piece of the prompt.
func (s *scan) text(t string) {
	hash, n, digits := uint64(hashStart), 0, 0
	for i := 0; i < len(t); {
		c := t[i]
		if c < utf8.RuneSelf {
			if f := ascii[c]; f != 0 {
				hash = (hash ^ uint64(f)) * hashPrime
				n++
				if f <= '9' {
					digits++
				}
				i++
				continue
			}
			if c == '\'' {
				i++
				continue
			}
			if n > 0 {
				s.word(hash, n, digits)
				hash, n, digits = hashStart, 0, 0
			}
			i += s.mark(t, i, c)
			continue
		}
		r, size := utf8.DecodeRuneInString(t[i:])
		i += size
		if wide(r) {
			if n > 0 {
				s.word(hash, n, digits)
				hash, n, digits = hashStart, 0, 0
			}
			s.rune(t[i-size:], r)
			continue
		}
		f := foldRune(r)
		switch {
		case f > 0:
			hash = (hash ^ uint64(f)) * hashPrime
			n++
			if unknownScript(f) {
				s.foreign++
			}
		case f == 0:
			if n > 0 {
				s.word(hash, n, digits)
				hash, n, digits = hashStart, 0, 0
			}
			s.wideMark(r)
		}
	}
	if n > 0 {
		s.word(hash, n, digits)
	}
}

// mark takes the ASCII character that ends a word and returns how many bytes it
// is good for: a fenced block is skipped as a whole.
func (s *scan) mark(t string, i int, c byte) int {
	switch c {
	case '?':
		s.questions++
		s.sentence()
	case '.', '!':
		// A space, a quotation mark or the end; in UTF-8 the typographic ones
		// and the no-break space begin with C2 or E2.
		if i+1 == len(t) || t[i+1] <= ' ' || t[i+1] == '"' || t[i+1] == 0xC2 || t[i+1] == 0xE2 {
			s.sentence()
		}
	case ',', ';', ':', '(':
		if c == ',' {
			s.commas++
		}
		s.start, s.pending = true, false
		if c == ':' && s.transform {
			s.sizes = true // what follows is to be worked on, it asks for nothing
		}
	case '\n':
		s.line(t, i)
		blank := 1
		for i+blank < len(t) && t[i+blank] == '\n' {
			blank++
		}
		return blank
	case '`':
		if strings.HasPrefix(t[i:], "```") {
			s.fences++
			end := strings.Index(t[i+3:], "```")
			if end < 0 {
				end = len(t) - i - 3
			}
			s.fenced += end
			return min(end+6, len(t)-i)
		}
	case '\\', '$', '^', '=':
		s.signs++
	}
	return 1
}

// line ends a line: what follows is a new clause, and the line itself may have
// been code.
func (s *scan) line(t string, i int) {
	s.start, s.pending = true, false
	end := i - 1
	if end > 0 && t[end] == '\r' {
		end--
	}
	if end >= 0 && (t[end] == ';' || t[end] == '{' || t[end] == '}') {
		s.syntax++
		return
	}
	for i++; i < len(t) && (t[i] == ' ' || t[i] == '\t'); {
		i++
	}
	if startsCode(t[i:]) {
		s.syntax++
	}
}

// startsCode tells a line of a common language by its first word.
func startsCode(line string) bool {
	keyword := ""
	switch {
	case line == "":
		return false
	case line[0] == 'd':
		keyword = "def "
	case line[0] == 'f':
		return strings.HasPrefix(line, "func ") || strings.HasPrefix(line, "from ") || strings.HasPrefix(line, "for (")
	case line[0] == 'c':
		keyword = "class "
	case line[0] == 'i':
		return strings.HasPrefix(line, "import ") || strings.HasPrefix(line, "if (")
	case line[0] == '#':
		keyword = "#include"
	case line[0] == 'r':
		keyword = "return "
	case line[0] == 'p':
		keyword = "public "
	default:
		return false
	}
	return strings.HasPrefix(line, keyword)
}

func (s *scan) sentence() {
	s.sentences++
	s.start, s.pending = true, false
}

// wideMark takes punctuation beyond ASCII.
func (s *scan) wideMark(r rune) {
	switch r {
	case '？', '؟':
		s.questions++
		s.sentence()
	case '。', '！':
		s.sentence()
	case '，', '、', '،':
		s.commas++
		s.start = true
	case '：', '；', '…', '—', '–':
		s.start = true
	}
}

// word takes a word by its hash.
func (s *scan) word(hash uint64, n, digits int) {
	s.words++
	s.letters += n
	if s.sizes {
		return
	}
	if digits == n {
		s.numbers++
		s.small = n == 1
		s.push(finish(hash), s.start)
		return
	}
	hash = finish(hash)
	c, start := classOf(hash), s.start
	s.start = c&opens != 0 || start && c&keeps != 0
	if s.pending && c&between != 0 {
		s.versus, s.pending = s.versus+1, false
	}
	s.strange = s.strange || c == 0 && s.words == 1
	if c == 0 || c&codeNoun != 0 {
		s.matters++
		s.content = true
	}
	if c != 0 {
		s.mean(c, start, 1)
		if c&ends != 0 {
			s.phrases(hash)
		}
	}
	s.small = c&number != 0
	s.push(hash, start)
}

func (s *scan) push(hash uint64, start bool) {
	s.back[2], s.back[1], s.back[0] = s.back[1], s.back[0], past{hash, start}
}

// phrases looks for those that end with the word at hand.
func (s *scan) phrases(hash uint64) {
	two := chain(s.back[0].hash, hash)
	if c := classOf(two); c != 0 {
		s.mean(c, s.back[0].start, 2)
	}
	two = chain(s.back[1].hash, s.back[0].hash)
	if c := classOf(chain(two, hash)); c != 0 {
		s.mean(c, s.back[1].start, 3)
	}
	three := chain(chain(s.back[2].hash, s.back[1].hash), s.back[0].hash)
	if c := classOf(chain(three, hash)); c != 0 {
		s.mean(c, s.back[2].start, 4)
	}
}

// mean counts a word or a phrase of span words, whose first stood at the start
// of a clause or not.
func (s *scan) mean(c class, start bool, span int) {
	if span > 1 {
		if c&opens != 0 {
			s.start = true
		}
		// "how many" asks for no explanation.
		if c&(quantity|looksUp|goesOn|greets) != 0 && s.words-s.explained < span && s.explains > 0 {
			s.explains, s.explained = s.explains-1, -9
		}
	}
	if start {
		s.verb(c)
		opening := s.words == span || !s.content
		s.lookup = s.lookup || opening && c&looksUp != 0
		s.greeting = s.greeting || s.words == span && c&greets != 0
	}
	if c&keeps == 0 && c&^(ends|opens) != 0 {
		s.content = true
	}
	s.count(c)
	switch {
	case c&comparison != 0:
		s.pending = true
	case c&brief != 0, c&unit != 0 && s.small:
		s.brief = true
	}
	if c&goesOn != 0 {
		s.follow += span
	} else if c&goesWith != 0 {
		s.with += span
	}
}

// verb counts an imperative.
func (s *scan) verb(c class) {
	if c&writes != 0 {
		s.writes++
	}
	if c&explains != 0 {
		s.explains++
		s.explained = s.words
	}
	if c&analyses != 0 {
		s.analyses++
	}
	if c&compares != 0 {
		s.compares++
	}
	if c&makesCode != 0 {
		s.makes++
	}
	if c&transforms != 0 {
		s.transform = true
	}
}

// count counts what means the same anywhere.
func (s *scan) count(c class) {
	if c&explainsAnywhere != 0 {
		s.explains++
	}
	if c&against != 0 && s.words > 1 {
		s.against++
	}
	if c&codeNoun != 0 {
		s.nouns++
	}
	if c&connective != 0 {
		s.connectives++
	}
	if c&constraint != 0 {
		s.constraints++
	}
	if c&number != 0 {
		s.numbers++
	}
	if c&quantity != 0 {
		s.quantities++
	}
}

// rune takes a rune of a script without spaces, and the runs that begin there.
func (s *scan) rune(t string, r rune) {
	s.wides++
	if s.sizes {
		return
	}
	c := runClass(t, r)
	if c == 0 {
		return
	}
	s.verb(c)
	s.count(c)
	s.lookup = s.lookup || c&looksUp != 0
	s.greeting = s.greeting || s.wides == 1 && c&greets != 0
	s.brief = s.brief || c&brief != 0
	if c&goesOn != 0 {
		s.follow++
	}
}

// goesOn reports whether the prompt only tells to go on with what came before.
func (s *scan) goesOn() bool {
	return s.follow > 0 && (s.words > 0 && s.words <= 6 && s.wides == 0 && s.follow+s.with >= s.words || s.words == 0 && s.wides <= 4)
}

// tokens estimates the prompt's size.
func (s *scan) tokens() float64 {
	return max(float64(s.words)/0.75, float64(s.letters)/5) + 0.8*float64(s.wides) + float64(s.fenced)/16
}

// score sums the dimensions. They are kept in hundredths, so that the sum is
// what the breakdown shows.
func (s *scan) score() Score {
	tokens := s.tokens()
	if tokens == 0 && s.fences == 0 {
		return Score{}
	}
	code := s.code()
	reasoning, compared := s.reasoning(tokens)
	b := Breakdown{
		Length:    s.length(tokens),
		Questions: min(1, 0.3*float64(max(0, s.questions-1))),
		Reasoning: reasoning,
		Code:      code,
	}
	b.Simple = s.simple(tokens, &b, compared)
	sum := 0
	for _, part := range []*float64{&b.Length, &b.Questions, &b.Reasoning, &b.Code, &b.Simple} {
		hundredths := int(math.Round(*part * 100))
		*part = float64(hundredths) / 100
		sum += hundredths
	}
	return Score{Value: float64(min(max(sum, 0), 1000)) / 100, Breakdown: b}
}

func (s *scan) length(tokens float64) float64 {
	if tokens < fadeStart {
		return 0.5
	}
	length := 0.5 + 0.7*math.Log2(tokens/fadeStart) + 0.4*math.Log(float64(max(s.sentences, 1))) + 0.6*math.Log(float64(max(s.commas, 1)))
	if s.transform {
		length = min(length, 1.5)
	}
	if s.closing && s.lookup && s.quantities == 0 {
		length = min(length, 2.5) // what is looked for stands in the text
	}
	// Beyond about a page more text is mostly more to read, not to think about.
	return min(length, 2.5+0.3*max(0, length-2.5), 5)
}

// reasoning is the highest level of what is asked for. In a longer prompt the
// keywords say less and the density of conditions and numbers more.
func (s *scan) reasoning(tokens float64) (value float64, compared bool) {
	level := 0.0
	asked := s.writes + s.explains + s.analyses
	compared = s.compares > 0 || s.versus > 0 || s.against > 0
	fading := fade(tokens)
	switch {
	case compared:
		level = 7
		if s.lookup && s.compares+s.versus == 0 && asked == 0 {
			level = 3
		}
	case s.analyses > 0:
		level = 5.5 + 0.75*float64(min(s.analyses-1, 2))
		fading = fade(tokens / 2) // such a task is seldom told in a line
	case s.explains > 0:
		level = 3
	case s.writes > 0 && (s.makes == 0 || s.nouns == 0):
		level = 2.5
	}
	if level == 0 && s.foreign*2 > s.letters {
		level = 2.5 // a language without a table: silence is no sign of ease
	}
	if s.matters == 0 && s.wides == 0 {
		level = min(level, 3) // verbs of hard work, and nothing to work on
	}
	level *= fading
	dense := 0.05*float64(min(s.connectives, 15)) + 0.08*float64(min(s.constraints, 5))
	perNumber := 0.03
	if s.quantities > 0 {
		perNumber = 0.12
	}
	dense += 0.1*float64(min(s.quantities, 5)) + perNumber*float64(min(s.numbers, 10)) + 0.06*float64(min(s.signs, 12))
	return min(7, max(level, dense)), compared
}

// fade is 1 for a short prompt and falls to 0 at 160 tokens.
func fade(tokens float64) float64 {
	if tokens <= fadeStart {
		return 1
	}
	return max(0, 1-math.Log2(tokens/fadeStart)/3)
}

func (s *scan) code() float64 {
	value := 0.0
	switch {
	case s.makes > 0 && s.nouns > 0:
		value = 4.5 + 0.5*float64(min(s.nouns-1, 2))
	default:
		value = min(3, 0.5*float64(s.nouns))
	}
	if s.fences > 0 {
		value += 2.5
	}
	if s.syntax > 1 {
		value += min(1.5, 0.3*float64(s.syntax))
	}
	return min(5, value)
}

func (s *scan) simple(tokens float64, b *Breakdown, compared bool) float64 {
	value := 0.0
	switch plain := b.Reasoning < 1 && b.Code < 1; {
	case s.greeting && plain && s.words <= 6 && s.questions == 0:
		value = -3
	case s.lookup && plain && tokens < shortLook:
		value = -3
	case s.lookup && plain && tokens < longLook:
		value = -1
	}
	switch {
	case s.brief && compared:
		value -= 1.5
	case s.brief:
		value -= 2.5 * fade(tokens)
	}
	return max(value, -4)
}
