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

	"github.com/inference-router/inference-router/internal/rawjson"
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
	// gjson's validator calls itself for each level: a body of nothing but
	// brackets would end the process.
	if rawjson.TooDeep(body, maxRequestDepth) {
		return nil, &InvalidError{Message: fmt.Sprintf("The body nests deeper than %d levels.", maxRequestDepth)}
	}
	if !gjson.ValidBytes(body) {
		return nil, &InvalidError{Message: "The body is not valid JSON.", Code: "invalid_json"}
	}
	r := &EmbeddingRequest{Body: body}
	if err := r.read(gjson.ParseBytes(body)); err != nil {
		return nil, named(err)
	}
	return r, nil
}

func (r *EmbeddingRequest) read(root gjson.Result) error {
	if !root.IsObject() {
		return &InvalidError{Message: "The body must be a JSON object."}
	}
	if err := singleNames(root); err != nil {
		return err
	}
	root.ForEach(func(key, v gjson.Result) bool {
		if key.Str == "model" { // also a null one, which has to be replaced
			r.model = span{v.Index, v.Index + len(v.Raw)}
		}
		return true
	})
	err := eachMember(root, func(name string, v gjson.Result) error { return within(name, r.member(name, v)) })
	if err == nil && r.Inputs == 0 {
		err = within("input", missing("a string, or an array of strings or of token ids"))
	}
	return err
}

// singleNames refuses names that occur twice, or that differ from one we know
// only in case: upstreams disagree on which of them counts.
func singleNames(root gjson.Result) (err error) {
	seen := map[string]bool{}
	root.ForEach(func(key, _ gjson.Result) bool {
		name, fold := key.Str, strings.ToLower(key.Str)
		like := slices.IndexFunc(embeddingNames, func(known string) bool { return strings.EqualFold(known, name) })
		switch {
		case seen[fold]:
			err = &InvalidError{Param: name, Code: "duplicate_parameter", Message: fmt.Sprintf("Duplicate parameter: '%s' is given more than once.", name)}
		case like >= 0 && name != embeddingNames[like]:
			err = &InvalidError{Param: name, Code: "invalid_parameter_name", Message: fmt.Sprintf("Unknown parameter: '%s'. Did you mean '%s'?", name, embeddingNames[like])}
		}
		seen[fold] = true
		return err == nil
	})
	return err
}

// member reads one of the members that mean something here.
func (r *EmbeddingRequest) member(name string, v gjson.Result) (err error) {
	switch name {
	case "model":
		err = readString(&r.Model, v)
	case "input":
		err = r.readInput(v)
	case "encoding_format":
		var format string
		err = readOneOf(&format, v, "float", "base64")
		r.Base64 = format == "base64"
	case "dimensions":
		r.Dimensions, err = intValue(v, 1, math.MaxInt32)
	case "input_type":
		err = readString(&r.InputType, v)
	case "user":
		err = readString(&r.User, v)
	case "safety_identifier":
		err = readString(&r.SafetyIdentifier, v)
	case "metadata":
		err = r.readMetadata(v)
	}
	return err
}

func (r *EmbeddingRequest) readInput(v gjson.Result) error {
	switch {
	case v.Type == gjson.String:
		return r.addText(v)
	case !v.IsArray():
		return wrongType(v, "a string, or an array of strings or of token ids")
	}
	first := v.Get("0")
	switch {
	case !first.Exists():
		return &InvalidError{Code: "empty_array", Message: "expected an array with minimum length 1, but got an empty array instead"}
	case first.Type == gjson.Number:
		return r.addTokens(v)
	case v.Get("#").Int() > maxEmbeddingInputs:
		return &InvalidError{Code: "array_above_max_length", Message: fmt.Sprintf("array too long; expected at most %d inputs", maxEmbeddingInputs)}
	}
	add := r.addText
	if first.IsArray() {
		add = r.addTokens
	}
	return eachElement(v, func(_ int, e gjson.Result) error { return add(e) })
}

func (r *EmbeddingRequest) addText(v gjson.Result) error {
	var text string
	if err := readString(&text, v); err != nil {
		return err
	}
	if text == "" {
		return refusef("expected some text, but got an empty string")
	}
	r.Texts = append(r.Texts, text)
	r.Inputs++
	r.InputBytes += int64(len(text)) + embeddingOverhead
	return nil
}

func (r *EmbeddingRequest) addTokens(v gjson.Result) error {
	tokens := int64(0)
	err := eachElement(v, func(_ int, e gjson.Result) error {
		tokens++
		_, err := intValue(e, 0, math.MaxInt32)
		return err
	})
	if err == nil && tokens == 0 {
		err = &InvalidError{Code: "empty_array", Message: "expected at least one token id"}
	}
	r.Tokens = true
	r.Inputs++
	r.InputBytes += tokens + embeddingOverhead
	return err
}

// readMetadata reads who asks. The first of two equal names would be ours and
// the second perhaps the upstream's.
func (r *EmbeddingRequest) readMetadata(v gjson.Result) error {
	seen := map[string]bool{}
	return eachMember(v, func(name string, e gjson.Result) (err error) {
		switch {
		case seen[name]:
			err = &InvalidError{Code: "duplicate_parameter", Message: "the name is given more than once"}
		case name == "user_id":
			err = readString(&r.MetadataUser, e)
		case name == "budget_usd" && e.Type == gjson.Number:
			r.MetadataBudget = e.Raw
		case name == "budget_usd":
			err = readString(&r.MetadataBudget, e)
		}
		seen[name] = true
		return within(name, err)
	})
}

// wholeNumber reads a count from 0 up to 2^53, also one written as 10.0.
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
	id := foundationModel(model)
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
		return nil, &InvalidError{Param: "input", Message: fmt.Sprintf("Invalid 'input': %s cannot read token ids. Send text.", d.name)}
	}
	inputType, err := embeddingInputType(r.InputType, defaultType)
	if err != nil {
		return nil, err
	}
	dimensions := r.Dimensions
	if dimensions != 0 && !slices.Contains(d.dimensions, dimensions) {
		return nil, &InvalidError{Param: "dimensions", Message: fmt.Sprintf("Invalid 'dimensions': %s has no vectors of length %d. Expected one of %s.",
			d.name, dimensions, strings.Trim(strings.Join(strings.Fields(fmt.Sprint(d.dimensions)), ", "), "[]"))}
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
	return "", &InvalidError{Param: "input_type", Message: "Invalid 'input_type': expected one of search_document, search_query, classification, clustering."}
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
