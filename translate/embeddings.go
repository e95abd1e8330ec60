package translate

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// maxEmbeddingInputs is OpenAI's limit on the inputs of one request.
const maxEmbeddingInputs = 2048

// embeddingOverhead bounds the tokens a model adds to each input of its own
// accord, such as marks of beginning and end.
const embeddingOverhead = 8

// EmbeddingRequest is one embeddings request: the client's JSON as it came,
// and the few facts we choose and bill by. It is never changed once made. Safe
// for concurrent use.
type EmbeddingRequest struct {
	Body []byte // the JSON object, as the client sent it

	Model  string   // as sent; "" when absent
	Texts  []string // the inputs, when they are text
	Tokens bool     // the inputs are token ids, which only the model's own tokenizer can read
	Inputs int      // number of inputs, text or tokens
	Base64 bool     // encoding_format is base64

	Dimensions int64 // length of the vectors asked for; 0 when absent
	// InputType is the extension input_type: whether the inputs are looked
	// for or looked in. "" when absent.
	InputType string
	// InputBytes bounds the input tokens from above: a token covers at least
	// one byte of text.
	InputBytes int64

	// Who the body says is asking; believed or not by the identity mode.
	User             string // user
	SafetyIdentifier string // safety_identifier
	MetadataUser     string // metadata.user_id
	MetadataBudget   string // metadata.budget_usd, a number's or a string's text

	// ClientKey is the caller's own credential, for upstreams to which it is
	// passed on, and Forward are the caller's headers that go on to them, by
	// canonical name. The proxy sets both; they are never part of Body.
	ClientKey Secret
	Forward   map[string]string

	model span // the value of model in Body; empty when absent
}

// span is a range of bytes.
type span struct{ from, to int }

// EmbeddingAnswer is the answer to one embeddings request.
type EmbeddingAnswer struct {
	Body      []byte // OpenAI's JSON, or the upstream's own bytes on pass-through
	Usage     *Usage // nil when the upstream did not report it
	RequestID string // the provider's id of the call; of the first one when there were several
}

// embeddingNames are the top-level names that mean something here. A name that
// differs from one of them only in case is refused: upstreams disagree on
// whether it counts.
var embeddingNames = []string{
	"model", "input", "encoding_format", "dimensions", "input_type",
	"user", "safety_identifier", "metadata",
}

// ParseEmbedding reads an embeddings request. It fails with *InvalidError.
func ParseEmbedding(body []byte) (*EmbeddingRequest, error) {
	// Not gjson's validator: it calls itself per nesting level without a
	// bound, and a body of brackets would end the process.
	if !json.Valid(body) {
		return nil, &InvalidError{Message: "The body is not valid JSON."}
	}
	root := gjson.ParseBytes(body)
	if !root.IsObject() {
		return nil, &InvalidError{Message: "The body must be a JSON object."}
	}
	fields, err := embeddingFields(root)
	if err != nil {
		return nil, err
	}
	r := &EmbeddingRequest{Body: body}
	if m, ok := fields["model"]; ok {
		r.model = span{m.Index, m.Index + len(m.Raw)}
	}
	for _, read := range []func(map[string]gjson.Result) error{
		r.readInput, r.readShape, r.readIdentity,
	} {
		if err := read(fields); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// embeddingFields returns the members we know by name, null ones left out
// except for model, whose place matters.
func embeddingFields(root gjson.Result) (map[string]gjson.Result, error) {
	seen := map[string]bool{}
	fields := map[string]gjson.Result{}
	var err error
	root.ForEach(func(key, value gjson.Result) bool {
		name := key.String()
		fold := strings.ToLower(name)
		if seen[fold] {
			err = &InvalidError{Param: name, Message: fmt.Sprintf("%s: the name occurs twice.", name)}
			return false
		}
		seen[fold] = true
		like := slices.IndexFunc(embeddingNames, func(known string) bool { return strings.EqualFold(known, name) })
		if like >= 0 && name != embeddingNames[like] {
			err = &InvalidError{Param: name, Message: fmt.Sprintf("%s: names are case-sensitive; write %s.", name, embeddingNames[like])}
			return false
		}
		if name == "model" || value.Type != gjson.Null {
			fields[name] = value
		}
		return true
	})
	return fields, err
}

func (r *EmbeddingRequest) readInput(fields map[string]gjson.Result) error {
	input, ok := fields["input"]
	switch {
	case !ok:
		return invalidEmbedding("input", "is missing.")
	case input.Type == gjson.String:
		return r.addText("input", input)
	case !input.IsArray():
		return invalidEmbedding("input", "must be a string, or an array of strings or of token ids.")
	}
	items := input.Array()
	if len(items) == 0 {
		return invalidEmbedding("input", "must not be empty.")
	}
	if items[0].Type == gjson.Number {
		return r.addTokens("input", items)
	}
	if len(items) > maxEmbeddingInputs {
		return invalidEmbedding("input", fmt.Sprintf("has %d items; at most %d fit one request.", len(items), maxEmbeddingInputs))
	}
	for i, item := range items {
		param := "input[" + strconv.Itoa(i) + "]"
		var err error
		if items[0].IsArray() {
			err = r.addTokens(param, item.Array())
			if !item.IsArray() {
				err = invalidEmbedding(param, "must be an array of token ids, like the first.")
			}
		} else {
			err = r.addText(param, item)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *EmbeddingRequest) addText(param string, text gjson.Result) error {
	if text.Type != gjson.String {
		return invalidEmbedding(param, "must be a string.")
	}
	s := text.String()
	if s == "" {
		return invalidEmbedding(param, "must not be empty.")
	}
	r.Texts = append(r.Texts, s)
	r.Inputs++
	r.InputBytes += int64(len(s)) + embeddingOverhead
	return nil
}

func (r *EmbeddingRequest) addTokens(param string, ids []gjson.Result) error {
	if len(ids) == 0 {
		return invalidEmbedding(param, "must not be empty.")
	}
	for i, id := range ids {
		if _, ok := wholeNumber(id); !ok {
			return invalidEmbedding(param+"["+strconv.Itoa(i)+"]", "must be a token id, an integer from 0.")
		}
	}
	r.Tokens = true
	r.Inputs++
	r.InputBytes += int64(len(ids)) + embeddingOverhead
	return nil
}

// readShape reads what the answer is to look like.
func (r *EmbeddingRequest) readShape(fields map[string]gjson.Result) error {
	if err := readStrings(fields, map[string]*string{"model": &r.Model, "input_type": &r.InputType}); err != nil {
		return err
	}
	if f, ok := fields["encoding_format"]; ok {
		if f.Type != gjson.String || f.Str != "float" && f.Str != "base64" {
			return invalidEmbedding("encoding_format", `must be "float" or "base64".`)
		}
		r.Base64 = f.Str == "base64"
	}
	if d, ok := fields["dimensions"]; ok {
		n, ok := wholeNumber(d)
		if !ok || n < 1 {
			return invalidEmbedding("dimensions", "must be an integer from 1.")
		}
		r.Dimensions = n
	}
	return nil
}

func (r *EmbeddingRequest) readIdentity(fields map[string]gjson.Result) error {
	if err := readStrings(fields, map[string]*string{"user": &r.User, "safety_identifier": &r.SafetyIdentifier}); err != nil {
		return err
	}
	metadata, ok := fields["metadata"]
	if !ok {
		return nil
	}
	if !metadata.IsObject() {
		return invalidEmbedding("metadata", "must be an object.")
	}
	seen := map[string]bool{}
	var err error
	metadata.ForEach(func(key, value gjson.Result) bool {
		name := key.String()
		// The first of two would be ours and the second the upstream's.
		if seen[name] {
			err = invalidEmbedding("metadata."+name, "the name occurs twice.")
			return false
		}
		seen[name] = true
		switch {
		case name == "user_id" && value.Type == gjson.String:
			r.MetadataUser = value.String()
		case name == "budget_usd" && value.Type == gjson.String:
			r.MetadataBudget = value.String()
		case name == "budget_usd" && value.Type == gjson.Number:
			r.MetadataBudget = value.Raw
		case (name == "user_id" || name == "budget_usd") && value.Type != gjson.Null:
			err = invalidEmbedding("metadata."+name, "has the wrong type.")
		}
		return err == nil
	})
	return err
}

func readStrings(fields map[string]gjson.Result, into map[string]*string) error {
	for name, dst := range into {
		v, ok := fields[name]
		if !ok || v.Type == gjson.Null {
			continue
		}
		if v.Type != gjson.String {
			return invalidEmbedding(name, "must be a string.")
		}
		*dst = v.String()
	}
	return nil
}

func invalidEmbedding(param, message string) error {
	return &InvalidError{Param: param, Message: param + ": " + message}
}

// wholeNumber reads an integer from 0 up to 2^53, also one written as 10.0.
func wholeNumber(v gjson.Result) (int64, bool) {
	ok := v.Type == gjson.Number && v.Num >= 0 && v.Num <= 1<<53 && v.Num == math.Trunc(v.Num)
	return int64(v.Num), ok
}

// BodyFor is the client's JSON with the model replaced, and nothing else.
func (r *EmbeddingRequest) BodyFor(model string) []byte {
	value, _ := json.Marshal(model)
	if r.model.to == 0 {
		open := strings.IndexByte(string(r.Body), '{') + 1
		return slices.Concat(r.Body[:open], []byte(`"model":`), value, []byte(","), r.Body[open:])
	}
	return slices.Concat(r.Body[:r.model.from], value, r.Body[r.model.to:])
}

// FromOpenAIEmbedding reads what is billed from an OpenAI-compatible answer,
// which is passed on as it is. It fails when the answer is none.
func FromOpenAIEmbedding(body []byte, requestID string) (*EmbeddingAnswer, error) {
	if !json.Valid(body) {
		return nil, badEmbedding("The upstream's answer is not valid JSON.")
	}
	root := gjson.ParseBytes(body)
	if !root.Get("data").IsArray() {
		return nil, badEmbedding("The upstream's answer holds no embeddings.")
	}
	answer := &EmbeddingAnswer{Body: body, RequestID: requestID}
	if n, ok := wholeNumber(root.Get("usage.prompt_tokens")); ok {
		answer.Usage = &Usage{InputTokens: n}
	}
	return answer, nil
}

func badEmbedding(message string) *UpstreamError {
	return &UpstreamError{Kind: KindBadResponse, Code: "upstream_bad_response", Message: message, Billed: BilledUnknown}
}

// EmbeddingDialect is how one family of Bedrock models takes and gives
// embeddings.
type EmbeddingDialect struct {
	name       string
	dimensions []int64 // lengths on offer
	fixed      bool    // there is one length, and no field to ask for it
	batch      int     // texts in one call
	write      func(texts []string, dimensions int64, inputType string) any
	read       func(body gjson.Result) ([]gjson.Result, error)
}

// embeddingDialects by the beginning of the model id, region prefix removed.
var embeddingDialects = []struct {
	prefix  string
	dialect EmbeddingDialect
}{
	{"amazon.titan-embed-text-v2", EmbeddingDialect{
		dimensions: []int64{256, 512, 1024}, batch: 1, write: writeTitan, read: readTitan}},
	{"amazon.titan-embed-text-v1", EmbeddingDialect{
		dimensions: []int64{1536}, fixed: true, batch: 1, write: writeTitan, read: readTitan}},
	{"amazon.titan-embed-g1-text", EmbeddingDialect{
		dimensions: []int64{1536}, fixed: true, batch: 1, write: writeTitan, read: readTitan}},
	{"amazon.titan-embed-image-v1", EmbeddingDialect{
		dimensions: []int64{256, 384, 1024}, batch: 1, write: writeTitanImage, read: readTitan}},
	{"cohere.embed-v4", EmbeddingDialect{
		dimensions: []int64{256, 512, 1024, 1536}, batch: 96, write: writeCohere, read: readCohere}},
	{"cohere.embed-english-v3", EmbeddingDialect{
		dimensions: []int64{1024}, fixed: true, batch: 96, write: writeCohere, read: readCohere}},
	{"cohere.embed-multilingual-v3", EmbeddingDialect{
		dimensions: []int64{1024}, fixed: true, batch: 96, write: writeCohere, read: readCohere}},
	{"amazon.nova-2-multimodal-embeddings", EmbeddingDialect{
		dimensions: []int64{256, 384, 1024, 3072}, batch: 1, write: writeNova, read: readNova}},
}

// BedrockEmbedding finds the dialect of a Bedrock model: a foundation model's
// id, one with a region prefix, or an ARN that ends in one.
func BedrockEmbedding(model string) (*EmbeddingDialect, error) {
	id := model[strings.LastIndexByte(model, '/')+1:]
	for _, prefix := range []string{"us.", "eu.", "apac.", "jp.", "au.", "us-gov.", "global."} {
		if rest, ok := strings.CutPrefix(id, prefix); ok {
			id = rest
			break
		}
	}
	for _, d := range embeddingDialects {
		if strings.HasPrefix(id, d.prefix) {
			dialect := d.dialect
			dialect.name = id
			return &dialect, nil
		}
	}
	return nil, fmt.Errorf("%q is not a known Bedrock embedding model; known are Titan text v1 and v2, Titan image, Cohere v3 and v4, Nova 2 multimodal", model)
}

// EmbeddingCall is one InvokeModel call of the several a request may need.
type EmbeddingCall struct {
	Body  []byte
	Count int // number of texts in it
}

// Calls splits a request into the calls it needs, in the order of its inputs.
// defaultType is the input type of a request that names none; "" means
// search_document. It fails with *InvalidError.
func (d *EmbeddingDialect) Calls(r *EmbeddingRequest, defaultType string) ([]EmbeddingCall, error) {
	if r.Tokens {
		return nil, invalidEmbedding("input", "token ids cannot be read by "+d.name+"; send text.")
	}
	inputType, err := embeddingInputType(r.InputType, defaultType)
	if err != nil {
		return nil, err
	}
	dimensions := r.Dimensions
	if dimensions != 0 && !slices.Contains(d.dimensions, dimensions) {
		return nil, invalidEmbedding("dimensions", fmt.Sprintf("%d is not on offer at %s; there are %s.",
			dimensions, d.name, strings.Trim(strings.Join(strings.Fields(fmt.Sprint(d.dimensions)), ", "), "[]")))
	}
	if d.fixed {
		dimensions = 0
	}
	var calls []EmbeddingCall
	for texts := range slices.Chunk(r.Texts, d.batch) {
		body, err := json.Marshal(d.write(texts, dimensions, inputType))
		if err != nil {
			return nil, fmt.Errorf("write the embedding call: %w", err)
		}
		calls = append(calls, EmbeddingCall{Body: body, Count: len(texts)})
	}
	return calls, nil
}

// embeddingInputType accepts Cohere's names and the short ones of other APIs.
func embeddingInputType(asked, byDefault string) (string, error) {
	switch asked {
	case "":
		if byDefault != "" {
			return byDefault, nil
		}
		return "search_document", nil
	case "query":
		return "search_query", nil
	case "document", "passage":
		return "search_document", nil
	case "search_document", "search_query", "classification", "clustering":
		return asked, nil
	}
	return "", invalidEmbedding("input_type", "must be search_document, search_query, classification or clustering.")
}

func writeTitan(texts []string, dimensions int64, _ string) any {
	return struct {
		InputText  string `json:"inputText"`
		Dimensions int64  `json:"dimensions,omitempty"`
	}{texts[0], dimensions}
}

func writeTitanImage(texts []string, dimensions int64, _ string) any {
	type config struct {
		Length int64 `json:"outputEmbeddingLength"`
	}
	body := struct {
		InputText string  `json:"inputText"`
		Config    *config `json:"embeddingConfig,omitempty"`
	}{InputText: texts[0]}
	if dimensions != 0 {
		body.Config = &config{dimensions}
	}
	return body
}

func writeCohere(texts []string, dimensions int64, inputType string) any {
	return struct {
		Texts     []string `json:"texts"`
		InputType string   `json:"input_type"`
		Dimension int64    `json:"output_dimension,omitempty"`
	}{texts, inputType, dimensions}
}

// novaPurpose says in Nova's words what an input type is for.
var novaPurpose = map[string]string{
	"search_document": "GENERIC_INDEX",
	"search_query":    "GENERIC_RETRIEVAL",
	"classification":  "CLASSIFICATION",
	"clustering":      "CLUSTERING",
}

func writeNova(texts []string, dimensions int64, inputType string) any {
	type text struct {
		Truncation string `json:"truncationMode"`
		Value      string `json:"value"`
	}
	type params struct {
		Purpose   string `json:"embeddingPurpose"`
		Dimension int64  `json:"embeddingDimension,omitempty"`
		Text      text   `json:"text"`
	}
	return struct {
		Task   string `json:"taskType"`
		Params params `json:"singleEmbeddingParams"`
	}{"SINGLE_EMBEDDING", params{novaPurpose[inputType], dimensions, text{"END", texts[0]}}}
}

// EmbeddingPart is what one call gave.
type EmbeddingPart struct {
	Vectors [][]float32
	Tokens  int64 // input tokens; -1 when not reported
}

// ReadPart reads the answer to one call that carried count texts. tokenHeader
// is the value of x-amzn-bedrock-input-token-count. The error says what is
// wrong with the answer.
func (d *EmbeddingDialect) ReadPart(body []byte, tokenHeader string, count int) (*EmbeddingPart, error) {
	if !json.Valid(body) {
		return nil, fmt.Errorf("embedding answer of %s is not JSON", d.name)
	}
	root := gjson.ParseBytes(body)
	arrays, err := d.read(root)
	if err != nil {
		return nil, fmt.Errorf("embedding answer of %s: %w", d.name, err)
	}
	if len(arrays) != count {
		return nil, fmt.Errorf("embedding answer of %s has %d vectors for %d texts", d.name, len(arrays), count)
	}
	part := &EmbeddingPart{Vectors: make([][]float32, count), Tokens: embeddingTokens(root, tokenHeader)}
	for i, array := range arrays {
		if part.Vectors[i], err = readVector(array); err != nil {
			return nil, fmt.Errorf("embedding answer of %s: vector %d: %w", d.name, i, err)
		}
	}
	return part, nil
}

// embeddingTokens prefers the body's count (Titan) to the header's (all).
func embeddingTokens(root gjson.Result, header string) int64 {
	if n, ok := wholeNumber(root.Get("inputTextTokenCount")); ok {
		return n
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(header), 10, 64); err == nil && n >= 0 {
		return n
	}
	return -1
}

func readTitan(root gjson.Result) ([]gjson.Result, error) {
	if v := root.Get("embedding"); v.IsArray() {
		return []gjson.Result{v}, nil
	}
	if v := root.Get("embeddingsByType.float"); v.IsArray() {
		return []gjson.Result{v}, nil
	}
	return nil, fmt.Errorf("no embedding in it")
}

// readCohere takes both shapes: an array of vectors, and an object of arrays
// by type.
func readCohere(root gjson.Result) ([]gjson.Result, error) {
	v := root.Get("embeddings")
	if v.IsObject() {
		v = v.Get("float")
	}
	if !v.IsArray() {
		return nil, fmt.Errorf("no embeddings in it")
	}
	return v.Array(), nil
}

func readNova(root gjson.Result) ([]gjson.Result, error) {
	for _, e := range root.Get("embeddings").Array() {
		if v := e.Get("embedding"); v.IsArray() {
			return []gjson.Result{v}, nil
		}
	}
	return nil, fmt.Errorf("no embedding in it")
}

func readVector(array gjson.Result) ([]float32, error) {
	if !array.IsArray() {
		return nil, fmt.Errorf("not an array")
	}
	// The JSON is valid, so between the commas of an array of numbers stand
	// numbers; anything else fails to parse as one.
	inner := array.Raw[1 : len(array.Raw)-1]
	vector := make([]float32, 0, strings.Count(inner, ",")+1)
	for text := range strings.SplitSeq(inner, ",") {
		text = strings.TrimSpace(text)
		if text == "" || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
			return nil, fmt.Errorf("%.20q is not a number", text)
		}
		f, err := strconv.ParseFloat(text, 32)
		if err != nil {
			return nil, fmt.Errorf("%.20q does not fit a float32", text)
		}
		vector = append(vector, float32(f))
	}
	return vector, nil
}

// JoinEmbeddings makes one answer in OpenAI's form of the parts, which stand in
// the order of the inputs. model is what the answer calls the model.
func JoinEmbeddings(r *EmbeddingRequest, model string, parts []*EmbeddingPart) *EmbeddingAnswer {
	usage := &Usage{}
	size := 256
	for _, part := range parts {
		if part.Tokens < 0 {
			usage = nil
		}
		if usage != nil {
			usage.InputTokens += part.Tokens
		}
		for _, v := range part.Vectors {
			size += 64 + len(v)*12
		}
	}
	b := make([]byte, 0, size)
	b = append(b, `{"object":"list","data":[`...)
	index := 0
	for _, part := range parts {
		for _, vector := range part.Vectors {
			if index > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"object":"embedding","index":`...)
			b = strconv.AppendInt(b, int64(index), 10)
			b = append(b, `,"embedding":`...)
			b = appendVector(b, vector, r.Base64)
			b = append(b, '}')
			index++
		}
	}
	name, _ := json.Marshal(model)
	b = append(append(b, `],"model":`...), name...)
	if usage != nil {
		b = fmt.Appendf(b, `,"usage":{"prompt_tokens":%d,"total_tokens":%d}`, usage.InputTokens, usage.InputTokens)
	}
	return &EmbeddingAnswer{Body: append(b, '}'), Usage: usage}
}

// appendVector writes a vector as OpenAI does: numbers, or the base64 of its
// float32 values in little-endian order.
func appendVector(b []byte, vector []float32, inBase64 bool) []byte {
	if inBase64 {
		raw := make([]byte, 0, 4*len(vector))
		for _, f := range vector {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
		}
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, raw)
		return append(b, '"')
	}
	b = append(b, '[')
	for i, f := range vector {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendFloat32(b, f)
	}
	return append(b, ']')
}

// appendFloat32 writes the shortest text that reads back as the same float32:
// 0.1, not 0.10000000149011612.
func appendFloat32(b []byte, f float32) []byte {
	format := byte('f')
	if abs := max(f, -f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, float64(f), format, -1, 32)
}
