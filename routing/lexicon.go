package routing

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// class says what a word or phrase may mean to the score.
type class uint32

const (
	// Words that leave the next one where a verb is an imperative: always, or
	// when they stand there themselves.
	opens class = 1 << iota
	keeps
	// Verbs, counted where they are imperatives.
	writes
	explains
	analyses
	compares
	transforms
	makesCode // with a code noun: code is to be written
	// Counted anywhere.
	explainsAnywhere
	comparison
	against // stands between what is compared
	between // makes a comparison noun before it one: trade-offs of ...
	codeNoun
	connective
	constraint
	quantity // asks for a number
	number
	unit // makes a small number before it a wish for brevity: two sentences
	brief
	// Openings.
	looksUp
	greets
	// Follow-ups: a prompt of nothing else goes on with what was asked before.
	goesOn
	goesWith
	// ends a phrase of several words.
	ends
)

// words are the lexicon's entries: phrases separated by commas, case and
// accents folded, apostrophes and hyphens as they are typed. The languages
// stand in one table: where two share a word they mean the same.
var words = []struct {
	class class
	list  string
}{
	{opens, "please, and, then, how to, need to, want to, like to, me to, us to, you to, try to, trying to, going to, have to, is to, asked to, bitte, und, dann, zu, por favor, y, luego, e, depois, s'il vous plaît, et, puis, пожалуйста, и, затем, also, kindly, let's, now, но"},
	{keeps, "can, could, would, will, you, hi, hello, hey, ok, okay, so, well, first, second, third, next, finally, briefly, quickly, carefully, just, me, kannst, könntest, du, sie, puedes, podrías, peux, tu, pouvez, vous, pode, você, можешь, ты, i, need, want, like, us, help, question, task, exercise, problem, instruction, prompt, q, user"},
	{writes, `write, draft, propose, compose, create, generate, suggest, outline, recommend, plan, build, develop, implement, produce, prepare, brainstorm, invent, rewrite, rework, advise, extract, organize, organise, classify, categorize, solve, calculate, compute, determine, estimate, find,
		schreib, schreibe, schreiben, verfasse, entwirf, erstelle, schlage, plane, escribe, escriba, escribir, redacta, crea, propón, propone, planifica, sugiere, écris, écrivez, rédige, rédigez, crée, créez, propose, proposez, escreva, escreve, redija, crie, proponha, sugira, elabore, напиши, напишите, составь, составьте, предложи, предложите, создай, создайте, придумай,
		scrivi, scrivere, crea, proponi, elenca, schrijf, maak, stel voor, bedenk, napisz, stwórz, zaproponuj, yaz, oluştur, viết, tạo`},
	{explains, `explain, why, how, describe, elaborate, discuss, teach, clarify, illustrate, walk me through, show me how, tell me how, tell me why, tell me about,
		erkläre, erklär, erklären, warum, wieso, weshalb, wie, beschreibe, beschreib, beschreiben, erläutere, explica, explique, explícame, explicar, por qué, cómo, describe, describa, pourquoi, comment, expliquez, explique-moi, décris, décrivez, por que, como, descreva, explicame, объясни, объясните, почему, как, опиши, опишите, расскажи, расскажите,
		spiega, spiegami, come funziona, come si, perché, descrivi, leg uit, hoe, waarom, beschrijf, wyjaśnij, jak, dlaczego, opisz, giải thích, tại sao, mô tả, làm thế nào`},
	{analyses, `prove, derive, design, analyse, analyze, evaluate, debug, diagnose, critique, review, optimise, optimize, assess, investigate, refactor, architect, justify, disprove, formulate, examine, troubleshoot, synthesize, criticize, plan a, find the flaw, find the bug, find the race, find the error, root cause,
		beweise, beweis, leite her, entwerfe, entwirf ein, analysiere, analysieren, bewerte, bewerten, untersuche, optimiere, überprüfe, prüfe, demuestra, demostrar, deduce, diseña, diseñar, analiza, analizar, evalúa, evaluar, optimiza, depura, diagnostica, démontre, démontrez, prouve, prouvez, conçois, concevez, analysez, évalue, évaluez, optimisez, débogue, diagnostique, prove que, demonstre, projete, analise, avalie, otimize, depure, докажи, докажите, выведи, выведите, спроектируй, спроектируйте, проанализируй, проанализируйте, оцени, оцените, отладь, оптимизируй,
		dimostra, progetta, analizza, valuta, ottimizza, bewijs, ontwerp, analyseer, beoordeel, optimaliseer, udowodnij, zaprojektuj, przeanalizuj, oceń, zoptymalizuj, kanıtla, tasarla, analiz et, değerlendir, chứng minh, thiết kế, phân tích, đánh giá`},
	{compares, `compare, contrast, weigh, vergleiche, vergleich, vergleichen, compara, comparar, comparez, comparer, сравни, сравните, сравнить, wäge ab, confronta, confrontare, paragona, vergelijk, vergelijken, porównaj, porównać, karşılaştır, so sánh`},
	{against, `versus, vs`},
	{comparison, `trade-off, trade-offs, tradeoff, tradeoffs, pros and cons, advantages and disadvantages, strengths and weaknesses, benefits and drawbacks, pluses and minuses, vor- und nachteile, vorteile und nachteile, ventajas y desventajas, ventajas e inconvenientes, pros y contras, avantages et inconvénients, avantages et les inconvénients, vantagens e desvantagens, prós e contras, плюсы и минусы, преимущества и недостатки, за и против, vantaggi e svantaggi, pro e contro, voor- en nadelen, zalety i wady, wady i zalety, artıları ve eksileri, ưu và nhược điểm, ưu nhược điểm`},
	{between, `of, between, for, in, when, von, zwischen, de, del, entre, du, des, для, между`},
	{explainsAnywhere, `difference between, differences between, best practices, ideas for, tips for, tips on, advice on, suggestions for, should i, should we, is better, better than, best way to, best approach, açıkla, nasıl, neden, anlat, unterschied zwischen, diferencia entre, différence entre, diferença entre, разница между`},
	{transforms, `summarise, summarize, translate, proofread, rephrase, paraphrase, reword, shorten, fix the spelling, fix the grammar, correct the spelling, correct the grammar, turn this into, convert this into, reformat, capitalize, transcribe, fasse, übersetze, korrigiere, resume, resuma, traduce, traduzca, traducir, corrige, résume, résumez, traduis, traduisez, corrigez, resuma, traduza, corrija, переведи, переведите, резюмируй, исправь, исправьте, сократи, riassumi, traduci, correggi, vat samen, vertaal, verbeter, streść, przetłumacz, popraw, özetle, çevir, tóm tắt, dịch`},
	{makesCode, `write, implement, build, create, code, develop, refactor, fix, debug, port, convert, generate, make, optimise, optimize, complete, program, rewrite, schreibe, implementiere, escribe, implementa, écris, implémente, escreva, implemente, напиши, реализуй`},
	{codeNoun, `code, function, method, script, program, class, api, sql, query, regex, regexp, python, javascript, typescript, java, rust, golang, kotlin, swift, php, ruby, bash, shell, html, css, react, json, yaml, xml, docker, kubernetes, git, commit, compiler, parser, algorithm, array, linked list, hash table, hashmap, b tree, b+ tree, binary tree, struct, pointer, mutex, thread, goroutine, async, unit test, unit tests, stack trace, traceback, endpoint, database, schema, postgres, mysql, mongodb, redis, kafka, lambda, recursion, loop, string, integer, dataframe, pandas, numpy, curl, http, webhook, microservice, ring buffer, lock-free, cache, backend, frontend, repository, dockerfile, makefile, cli, sdk, orm, funktion, programm, skript, función, código, programa, fonction, programme, função, функция, функцию, код, программу, скрипт`},
	{connective, `if, because, while, when, although, though, unless, until, since, whereas, which, whose, whom, that, therefore, hence, thus, however, but, so, after, before, than, then, given, suppose, assume, assuming, following, whether, such, where, provided, except, despite, wenn, weil, obwohl, während, falls, dass, si, porque, aunque, mientras, que, quand, parce, lorsque, bien que, se, enquanto, embora, если, потому, хотя, когда, который, чтобы`},
	{constraint, `must, only, at least, at most, exactly, without, never, always, every, each, both, neither, no more than, less than, more than, between, should, cannot, not, any, all, ensure, avoid, include, step by step, in detail, constraint, requirement, required, muss, mindestens, höchstens, ohne, debe, sin, al menos, doit, sans, au moins, deve, sem, pelo menos, должен, должна, без, не менее`},
	{quantity, `how many, how much, how long, how far, how old, how fast, how often, how tall, how big, how large, how high, how deep, how heavy, total, altogether, in total, percent, percentage, average, sum, probability, ratio, remainder, at what time, what time, what fraction, what is the value, value of, what percent, calculate, compute, determine, solve, find the, evaluate, simplify, rate, equation, maximum, minimum, derivative, integral, estimate, approximately, velocity, density, volume, area, length, degrees, cost, wie viele, wie viel, wie lange, cuántos, cuántas, cuánto, cuánta, combien, quantos, quantas, quanto, сколько`},
	{number, `two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, twenty, thirty, forty, fifty, sixty, hundred, thousand, million, half, twice, thrice, double, triple, dozen, quarter, third, times, zwei, drei, vier, fünf, dos, tres, cuatro, cinco, deux, trois, quatre, cinq, dois, три, два, четыре, пять`},
	{unit, `word, words, sentence, sentences, line, lines, wort, worten, satz, sätzen, palabras, palabra, frase, frases, mots, mot, phrase, phrases, palavras, palavra, предложениях, предложении, словах, words or less, words or fewer`},
	{brief, `briefly, one sentence, a sentence, one line, one word, single word, single sentence, one paragraph, tl;dr, tldr, in short, in brief, in a nutshell, yes or no, true or false, just the answer, only the answer, short answer, answer only, concisely, keep it short, keep it brief, be brief, be concise, in a few words, kurz, in einem satz, ein satz, ja oder nein, brevemente, en una frase, en pocas palabras, sí o no, en une phrase, brièvement, en bref, oui ou non, em uma frase, resumidamente, sim ou não, кратко, вкратце, одним предложением, в одном предложении, да или нет, in una frase, in breve, in één zin, kort, jednym zdaniem, krótko, tek cümleyle, kısaca, ngắn gọn`},
	{looksUp, `what, what's, whats, who, who's, whose, when, where, which, define, spell, is, are, was, were, does, do, did, name, capital, synonym, give me, meaning, convert, how many, how much, how old, how long, how far, how tall, how big, how high, how do you say, how do you spell, wer, was, wann, wo, welche, welcher, welches, wie viele, wie viel, wie heißt, ist, qué, cuál, cuáles, quién, quiénes, cuándo, dónde, es, cuántos, cuántas, cuánto, quel, quelle, quels, quelles, qui, quand, où, combien, est-ce que, qu'est-ce que, qual, quais, quem, quando, onde, o que, quantos, quantas, кто, что, когда, где, какой, какая, какое, какие, сколько, столица, che cos'è, cos'è, qual è, dove, chi, quale, quanti, wat, wie is, waar, wanneer, welke, hoeveel, co to, gdzie, kto, kiedy, który, ile, nedir, nerede, kim, kaç, là gì, ở đâu`},
	{greets, `hi, hello, hey, thanks, thank you, thank, thx, ok, okay, bye, goodbye, good morning, good night, good evening, good afternoon, how are you, how's it going, how do you do, cheers, great, cool, nice, yes, no, yep, nope, sure, perfect, awesome, lol, hallo, danke, tschüss, guten morgen, guten tag, hola, gracias, adiós, buenos días, bonjour, merci, salut, au revoir, olá, obrigado, obrigada, tchau, привет, спасибо, пока, да, нет, ciao, grazie, buongiorno, hoi, bedankt, dank je, cześć, dziękuję, merhaba, teşekkürler, xin chào, cảm ơn, ja, nein, sí, oui, non, sim, não`},
	{goesOn, `continue, yes, yeah, yep, yup, ok, okay, sure, do it, go on, go ahead, go for it, proceed, keep going, carry on, next, more, and then, try again, again, weiter, ja, mach weiter, mach das, continúa, continua, sigue, sí, adelante, hazlo, continuez, oui, vas-y, d'accord, sim, pode continuar, faça isso, продолжай, продолжайте, да, давай, дальше, сделай это, ещё`},
	{goesWith, `please, now, that, this, it, a, an, by, on, at, from, about, or, as, with, the, step, one, part, then, and, so, also, some, just, bitte, por favor, s'il te plaît, s'il vous plaît, пожалуйста, right, exactly, good, great, perfect, sounds, go, on, do, ahead, keep, going, carry, mach, vas`},
}

// runs are what CJK text is searched for, where words have no bounds.
var runs = []struct {
	class class
	list  string
}{
	{writes, "写一,编写,撰写,起草,提出,制定,列出,建议,推荐,書いて,作成,提案,下書き,考えて,작성,써 줘,써줘,제안,만들어,초안"},
	{explains, "解释,說明,说明,解釋,为什么,為什麼,如何,怎么,怎麼,怎样,描述,介绍一下,区别,説明,なぜ,どうして,どうやって,仕組み,違い,教えて,설명,왜,어떻게,차이,묘사"},
	{analyses, "证明,證明,推导,設計,设计,分析,评估,評估,调试,诊断,优化,優化,証明,導出,評価,デバッグ,診断,最適化,批評,증명,유도,설계,분석,평가,디버그,진단,최적화"},
	{compares, "比较,比較,对比,對比,优缺点,優缺點,利弊,权衡,メリットとデメリット,長所と短所,トレードオフ,비교,장단점,트레이드오프"},
	{transforms, "总结,總結,翻译,翻譯,概括,改写,润色,校对,要約,翻訳,言い換え,校正,요약,번역,교정"},
	{codeNoun, "代码,函数,程序,脚本,算法,数据库,正则,代碼,コード,関数,プログラム,スクリプト,アルゴリズム,データベース,코드,함수,프로그램,스크립트,알고리즘,데이터베이스"},
	{makesCode, "写一个,编写,实现,書いて,実装,작성,구현"},
	{brief, "一句话,简单地说,简要,简短,一言で,簡潔に,一文で,はいかいいえ,한 문장,한마디로,간단히,짧게"},
	{looksUp, "什么是,是什么,哪里,哪儿,谁,多少,几,哪个,何时,首都,どこ,だれ,誰,いつ,何ですか,とは,いくつ,어디,누구,언제,무엇,몇,수도"},
	{connective, "因为,如果,但是,而且,所以,虽然,然后,并且,それで,しかし,もし,ので,から,ため,만약,그러나,그리고,때문,하지만"},
	{constraint, "必须,不能,至少,最多,只能,必ず,以上,以下,しなければ,반드시,최소,최대,없이"},
	{quantity, "多少,几个,一共,总共,いくつ,何個,合計,いくら,몇 개,얼마,모두"},
	{greets, "你好,谢谢,再见,早上好,こんにちは,ありがとう,おはよう,さようなら,안녕,감사합니다,고마워"},
	{goesOn, "继续,好的,続けて,はい,계속,네"},
}

const (
	hashStart = 14695981039346656037
	hashPrime = 1099511628211
)

// slot is an entry of the word table.
type slot struct {
	hash  uint64
	class class
}

const slotBits = 12

// wordTable is an open-addressed table by hash; a phrase stands under the hash
// of its words' hashes.
var wordTable = func() *[1 << slotBits]slot {
	table := new([1 << slotBits]slot)
	for _, entry := range words {
		for phrase := range strings.SplitSeq(entry.list, ",") {
			enter(table, phrase, entry.class)
		}
	}
	return table
}()

func enter(table *[1 << slotBits]slot, phrase string, c class) {
	hashes := wordHashes(phrase)
	hash := hashes[0]
	for _, h := range hashes[1:] {
		hash = chain(hash, h)
	}
	if len(hashes) > 1 {
		put(table, hashes[len(hashes)-1], ends)
	}
	put(table, hash, c)
}

func put(table *[1 << slotBits]slot, hash uint64, c class) {
	at := hash >> (64 - slotBits)
	for table[at].hash != 0 && table[at].hash != hash {
		at = (at + 1) % (1 << slotBits)
	}
	table[at].hash = hash
	table[at].class |= c
}

// classOf is a word's or phrase's class, 0 for most.
func classOf(hash uint64) class {
	at := hash >> (64 - slotBits)
	for wordTable[at].hash != 0 {
		if wordTable[at].hash == hash {
			return wordTable[at].class
		}
		at = (at + 1) % (1 << slotBits)
	}
	return 0
}

// chain is the hash of a phrase and the word that follows it.
func chain(phrase, word uint64) uint64 { return (phrase*31 ^ word) * hashPrime }

// finish spreads a word's hash over all bits: the table is indexed by the
// highest.
func finish(hash uint64) uint64 {
	hash ^= hash >> 29
	return hash * 0x9E3779B97F4A7C15
}

// wordHashes splits a phrase as the scan does.
func wordHashes(phrase string) []uint64 {
	var all []uint64
	hash, letters := uint64(hashStart), 0
	for _, r := range phrase + " " {
		f := foldRune(r)
		switch {
		case f > 0:
			hash = (hash ^ uint64(f)) * hashPrime
			letters++
		case f == 0 && letters > 0:
			all = append(all, finish(hash))
			hash, letters = hashStart, 0
		}
	}
	return all
}

// ascii folds a byte of ASCII: letters to lower case, digits as they are, 0 for
// what stands between words.
var ascii = func() (table [128]byte) {
	for c := range byte(128) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			table[c] = c
		case c >= 'A' && c <= 'Z':
			table[c] = c + 'a' - 'A'
		}
	}
	return table
}()

// latin folds U+00C0 to U+017F to the letter below the accent.
const latin = "aaaaaaaceeeeiiiidnooooo\x00ouuuuytsaaaaaaaceeeeiiiidnooooo\x00ouuuuyty" +
	"aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiiiiijjkkklllllll" +
	"lllnnnnnnnnnoooooooorrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs"

// foldRune folds a rune: a letter or digit to its lower case without accents, 0
// for what stands between words, -1 for what is skipped inside them.
func foldRune(r rune) rune {
	switch {
	case r < 128:
		if r == '\'' {
			return -1
		}
		return rune(ascii[r])
	case r >= 0xC0 && int(r-0xC0) < len(latin):
		return rune(latin[r-0xC0])
	case r == '\u2019', r == '\u00AD', r >= 0x200B && r <= 0x200D, r == 0xFEFF, r >= 0x300 && r <= 0x36F:
		return -1
	case r >= 0xFF01 && r <= 0xFF5E: // full width
		return foldRune(r - 0xFEE0)
	case r >= 0x400 && r <= 0x45F:
		return cyrillic(r)
	case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.M, r):
		return unicode.ToLower(r)
	}
	return 0
}

// cyrillic folds U+0400 to U+045F, and as the accents of Latin letters those of
// these.
func cyrillic(r rune) rune {
	switch {
	case r < 0x410:
		r += 0x50
	case r < 0x430:
		r += 0x20
	}
	switch r {
	case 'ё':
		return 'е'
	case 'й':
		return 'и'
	}
	return r
}

// unknownScript reports whether a folded letter is of a script that the lexicon
// has no words of.
func unknownScript(f rune) bool {
	return f >= 0x370 && (f < 0x400 || f > 0x52F) && (f < 0x1E00 || f > 0x1EFF)
}

// wide reports whether r belongs to a script that writes without spaces, or in
// which a word carries its particles: each rune is a good part of a token.
func wide(r rune) bool {
	return r >= 0x3040 && r <= 0x30FF || r >= 0x3400 && r <= 0x9FFF ||
		r >= 0xAC00 && r <= 0xD7AF || r >= 0xF900 && r <= 0xFAFF || r >= 0x20000 && r <= 0x3FFFF
}

// run is an entry of the table for wide scripts.
type run struct {
	text  string
	class class
}

// runsBy are the runs by their first rune; runFirst, a bit set by the rune's low
// bits, spares most look-ups.
var runsBy, runFirst = func() (map[rune][]run, *[64]uint64) {
	table, first := map[rune][]run{}, new([64]uint64)
	for _, entry := range runs {
		for text := range strings.SplitSeq(entry.list, ",") {
			r, _ := utf8.DecodeRuneInString(text)
			table[r] = append(table[r], run{text, entry.class})
			first[r>>6&63] |= 1 << (r & 63)
		}
	}
	return table, first
}()

// runClass is the class of all runs that begin s, whose first rune is r.
func runClass(s string, r rune) class {
	if runFirst[r>>6&63]&(1<<(r&63)) == 0 {
		return 0
	}
	var c class
	for _, run := range runsBy[r] {
		if strings.HasPrefix(s, run.text) {
			c |= run.class
		}
	}
	return c
}

// misspelt holds the hash of every verb with one letter left out.
var misspelt = func() map[uint64]class {
	const verbs = writes | explains | analyses | compares | transforms
	table := map[uint64]class{}
	for _, entry := range words {
		if entry.class&verbs == 0 {
			continue
		}
		for verb := range strings.SplitSeq(entry.list, ",") {
			verb = strings.TrimSpace(verb)
			if len(verb) < shortestMend || strings.ContainsFunc(verb, func(r rune) bool { return r >= 128 || ascii[r] == 0 }) {
				continue
			}
			for i := range verb {
				hash := wordHashes(verb[:i] + verb[i+1:])[0]
				if classOf(hash) == 0 {
					table[hash] |= entry.class
				}
			}
		}
	}
	return table
}()

// shortestMend is the least length of a verb that is recognized misspelt, and
// longestMend the most of a word that is looked at.
const (
	shortestMend = 6
	longestMend  = 14
)

// mend recognizes a verb with one slip of the finger: a letter left out, one too
// many, or two swapped. A wrong letter is not mended: too many nouns are verbs
// but for a letter.
func mend(word string) class {
	if len(word) < shortestMend-1 || len(word) > longestMend {
		return 0
	}
	if c := misspelt[hashOf(word, -1, -1)]; c != 0 {
		return c
	}
	for i := range len(word) - 1 {
		if c := classOf(hashOf(word, i, -1)); c != 0 && len(word) > shortestMend {
			return c
		}
		if c := classOf(hashOf(word, -1, i)); c != 0 && len(word) >= shortestMend {
			return c
		}
	}
	return 0
}

// hashOf is the hash of an ASCII word without its letter at skip, and with those
// at and after swap exchanged.
func hashOf(word string, skip, swap int) uint64 {
	hash := uint64(hashStart)
	for i := range len(word) {
		c := word[i]
		switch i {
		case skip:
			continue
		case swap:
			c = word[i+1]
		case swap + 1:
			if swap >= 0 {
				c = word[swap]
			}
		}
		hash = (hash ^ uint64(ascii[c])) * hashPrime
	}
	return finish(hash)
}
