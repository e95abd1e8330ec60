package translate

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Capabilities is what a model accepts, as far as a request has to be written
// differently for it. The values come from a table of data, not from tests on
// model names in the code, and an operator can override them.
type Capabilities struct {
	// Family names whose native parameters the model takes: claude, nova,
	// gpt-oss, deepseek, mistral, …; "" when unknown.
	Family string `json:"family"`

	Sampling         string `json:"sampling"`          // both, either (temperature or top_p), none
	Reasoning        string `json:"reasoning"`         // adaptive, budget, effort, none
	StructuredOutput string `json:"structured_output"` // native, tool, none

	Tools       bool `json:"tools"`
	ToolChoice  bool `json:"tool_choice"` // a call can be forced
	Images      bool `json:"images"`
	Documents   bool `json:"documents"`
	Stop        bool `json:"stop"`   // stop sequences
	System      bool `json:"system"` // system text apart from the turns
	Cache       bool `json:"cache"`  // cache points
	StreamTools bool `json:"stream_tools"`

	Context   int64 `json:"context"`    // tokens; 0 when unknown
	MaxOutput int64 `json:"max_output"` // tokens; 0 when unknown

	// What follows is not for operators: quirks without a configuration key.

	// Thinking says when the model thinks: "" when it is asked to, default
	// unless it is told not to, always whatever it is told.
	Thinking string `json:"thinking"`
	// Efforts are the names of the efforts that the model knows, from least to
	// greatest, a space between them; "" when unknown. Among them is none where
	// that is an effort of its own.
	Efforts string `json:"efforts"`
	// EffortField is where a model of reasoning effort reads it, with a dot for
	// an object; "" for the family's own way.
	EffortField string `json:"effort_field"`

	NamedToolChoice bool `json:"named_tool_choice"` // a call of one named tool can be forced
	Prefill         bool `json:"prefill"`           // the last turn may be the assistant's
	MidSystem       bool `json:"mid_system"`        // system text may stand among the turns
	BoundThoughts   bool `json:"bound_thoughts"`    // signed thoughts hold only after the very prefix they were made for
	StrictTools     bool `json:"strict_tools"`      // tools may be strict
	ParallelSwitch  bool `json:"parallel_switch"`   // parallel calls can be switched off
	CacheTools      bool `json:"cache_tools"`       // cache points among the tools and after any block
	CacheHour       bool `json:"cache_1h"`          // cache points may last an hour
	MixedToolTurn   bool `json:"mixed_tool_turn"`   // one turn may hold tool results and other content
	FlatSchema      bool `json:"flat_schema"`       // a tool's schema may have only type, properties, required
	ToolStatus      bool `json:"tool_status"`       // tool results carry a status
	ServiceTier     bool `json:"service_tier"`
	Audio           bool `json:"audio"`
	Video           bool `json:"video"`
	Verbosity       bool `json:"verbosity"`
}

//go:embed capabilities.json
var capabilitiesJSON []byte

// capabilityEntry is one line of the table: the ids it is for, and how they
// differ from a model that can do everything common.
type capabilityEntry struct {
	Match  string `json:"match"`
	Source string `json:"source"` // where its values are from
	Guess  bool   `json:"guess"`  // it stands for models that it does not name
	Any    bool   `json:"any"`    // whatever follows Match is the same model
	caps   Capabilities
	aws    Capabilities // on Bedrock
}

var capabilityTable = mustReadCapabilities(capabilitiesJSON)

// mustReadCapabilities panics on a broken table: it is part of the program.
func mustReadCapabilities(data []byte) []capabilityEntry {
	var file struct {
		Models []json.RawMessage `json:"models"`
	}
	must := func(err error) {
		if err != nil {
			panic("translate: capabilities.json: " + err.Error())
		}
	}
	must(json.Unmarshal(data, &file))
	table := make([]capabilityEntry, 0, len(file.Models))
	for _, line := range file.Models {
		var e capabilityEntry
		e.caps = commonCapabilities
		must(json.Unmarshal(line, &e))
		must(json.Unmarshal(line, &e.caps))
		e.aws = e.caps
		differs := struct {
			Bedrock *Capabilities `json:"bedrock"`
		}{&e.aws}
		must(json.Unmarshal(line, &differs))
		table = append(table, e)
	}
	return table
}

// commonCapabilities is what a line of the table leaves out.
var commonCapabilities = Capabilities{
	Sampling: "both", Reasoning: "none", StructuredOutput: "none",
	Tools: true, ToolChoice: true, NamedToolChoice: true, Images: true, Documents: true,
	Stop: true, System: true, Cache: true, CacheTools: true, StreamTools: true,
	MixedToolTurn: true, ToolStatus: true, ServiceTier: true,
}

// LookupCapabilities returns what is known of a model at a provider ("bedrock"
// or "anthropic"). Region prefixes, ARNs and case do not matter. A Claude that
// the table does not know is taken to be a new one, with the strictest rules;
// an opaque id (an application inference profile, an imported model) gets
// those of an unknown model, which an operator can override.
func LookupCapabilities(provider, model string) Capabilities {
	e, _ := lookUpEntry(provider, model)
	if provider == "bedrock" {
		return e.aws
	}
	return e.caps
}

// GuessedCapabilities names the entry of the table that stands in for a model
// which the table does not know; "" when it knows the model.
func GuessedCapabilities(provider, model string) string {
	e, exact := lookUpEntry(provider, model)
	switch {
	case exact:
		return ""
	case e.Match == "":
		return "an unknown model"
	}
	return strings.TrimSuffix(e.Match, ".")
}

// lookUpEntry finds the entry with the longest match, and whether it is the
// model's own. Of a next version of a Claude only the family is known.
func lookUpEntry(provider, model string) (best *capabilityEntry, exact bool) {
	id := foundationModel(model)
	if provider == "anthropic" && !strings.HasPrefix(id, "anthropic.") {
		id = "anthropic." + id
	}
	for i := range capabilityTable {
		e := &capabilityTable[i]
		rest, found := strings.CutPrefix(id, e.Match)
		if !found || best != nil && len(e.Match) <= len(best.Match) {
			continue
		}
		own := !e.Guess && (e.Any || !isNextVersion(rest))
		if !own && !e.Guess && e.caps.Family == "claude" {
			continue
		}
		best, exact = e, own
	}
	return best, exact
}

// isNextVersion reports whether what follows a known model's name makes it
// another one: a further number that is no date, or the rest of a word.
func isNextVersion(rest string) bool {
	if rest == "" || strings.HasPrefix(rest, "-v") || rest[0] == ':' || rest[0] == '@' {
		return false
	}
	if rest[0] != '-' {
		return true
	}
	digits := len(rest) - 1 - len(strings.TrimLeft(rest[1:], "0123456789"))
	return digits > 0 && digits != len("20260101")
}

// regionPrefixes lead the ids of inference profiles that span regions.
var regionPrefixes = []string{"us-gov.", "us.", "eu.", "apac.", "jp.", "au.", "ca.", "sa.", "me.", "af.", "in.", "global."}

// foundationModel strips from a model id what says where it runs: ARN, region
// prefix. The id of an application inference profile stays opaque.
func foundationModel(model string) string {
	id := strings.ToLower(model)
	if strings.HasPrefix(id, "arn:") {
		id = id[strings.LastIndexByte(id, '/')+1:]
	}
	for _, p := range regionPrefixes {
		if rest, ok := strings.CutPrefix(id, p); ok {
			return rest
		}
	}
	return id
}

// CapabilityOverrides is what an operator says of an upstream's model; what is
// left out stays as the table has it.
type CapabilityOverrides struct {
	// Family is a family of the table, or a model id in it: the model is taken
	// for one of those. It is for ids that say nothing of the model.
	Family           string `yaml:"family" json:"family,omitempty"`
	Sampling         string `yaml:"sampling" json:"sampling,omitempty" oneof:"both,either,none"`                   // temperature and top_p: both, either (one of the two), none
	Reasoning        string `yaml:"reasoning" json:"reasoning,omitempty" oneof:"adaptive,budget,effort,none"`      // how thinking is asked for: adaptive, budget, effort, none
	StructuredOutput string `yaml:"structured_output" json:"structured_output,omitempty" oneof:"native,tool,none"` // how a JSON schema is kept to: native, tool (a forced call), none
	Tools            *bool  `yaml:"tools" json:"tools,omitempty"`                                                  // takes tools
	ToolChoice       *bool  `yaml:"tool_choice" json:"tool_choice,omitempty"`                                      // a call can be forced
	Images           *bool  `yaml:"images" json:"images,omitempty"`                                                // takes images
	Documents        *bool  `yaml:"documents" json:"documents,omitempty"`                                          // takes documents
	Stop             *bool  `yaml:"stop" json:"stop,omitempty"`                                                    // takes stop sequences
	System           *bool  `yaml:"system" json:"system,omitempty"`                                                // takes system text apart from the turns
	Cache            *bool  `yaml:"cache" json:"cache,omitempty"`                                                  // takes cache points
	StreamTools      *bool  `yaml:"stream_tools" json:"stream_tools,omitempty"`                                    // streams while it has tools
	Context          int64  `yaml:"context" json:"context,omitempty"`                                              // tokens
	MaxOutput        int64  `yaml:"max_output" json:"max_output,omitempty"`                                        // tokens
}

// Validate names the first value that is none of those allowed.
func (o CapabilityOverrides) Validate() error {
	for _, f := range []struct {
		key, value string
		allowed    []string
	}{
		{"sampling", o.Sampling, []string{"both", "either", "none"}},
		{"reasoning", o.Reasoning, []string{"adaptive", "budget", "effort", "none"}},
		{"structured_output", o.StructuredOutput, []string{"native", "tool", "none"}},
	} {
		if f.value != "" && !slices.Contains(f.allowed, f.value) {
			return fmt.Errorf("%s: %q is none of %s", f.key, f.value, strings.Join(f.allowed, ", "))
		}
	}
	if _, known := familyEntry(o.Family); o.Family != "" && !known {
		return fmt.Errorf("family: %q is neither a known model id nor one of %s", o.Family, strings.Join(families(), ", "))
	}
	if o.Context < 0 {
		return fmt.Errorf("context: %d is less than 0", o.Context)
	}
	if o.MaxOutput < 0 {
		return fmt.Errorf("max_output: %d is less than 0", o.MaxOutput)
	}
	return nil
}

// familyEntry is the entry that stands for a family, by the family's name or
// by a model's id: of a family the last, which is the most general.
func familyEntry(name string) (found *capabilityEntry, known bool) {
	name = strings.ToLower(name)
	for i := range capabilityTable {
		if e := &capabilityTable[i]; e.caps.Family != "" && e.caps.Family == name {
			found = e
		}
	}
	if found != nil {
		return found, true
	}
	for _, provider := range []string{"bedrock", "anthropic"} {
		if e, _ := lookUpEntry(provider, name); e.Match != "" && name != "" && (provider == "bedrock" || e.Match != "anthropic.") {
			return e, true
		}
	}
	return nil, false
}

// families are the names of the families in the table.
func families() (names []string) {
	for _, e := range capabilityTable {
		if e.caps.Family != "" && !slices.Contains(names, e.caps.Family) {
			names = append(names, e.caps.Family)
		}
	}
	slices.Sort(names)
	return names
}

// Apply returns c, of a model at provider, with the overrides laid over it.
func (o CapabilityOverrides) Apply(provider string, c Capabilities) Capabilities {
	if e, known := familyEntry(o.Family); known && o.Family != "" {
		c = e.caps
		if provider == "bedrock" {
			c = e.aws
		}
	}
	c.Sampling = cmp.Or(o.Sampling, c.Sampling)
	c.Reasoning = cmp.Or(o.Reasoning, c.Reasoning)
	c.StructuredOutput = cmp.Or(o.StructuredOutput, c.StructuredOutput)
	for _, f := range []struct {
		value *bool
		field *bool
	}{
		{o.Tools, &c.Tools}, {o.ToolChoice, &c.ToolChoice}, {o.ToolChoice, &c.NamedToolChoice},
		{o.Images, &c.Images}, {o.Documents, &c.Documents}, {o.Stop, &c.Stop},
		{o.System, &c.System}, {o.Cache, &c.Cache}, {o.StreamTools, &c.StreamTools},
	} {
		if f.value != nil {
			*f.field = *f.value
		}
	}
	c.Context = cmp.Or(o.Context, c.Context)
	c.MaxOutput = cmp.Or(o.MaxOutput, c.MaxOutput)
	return c
}
