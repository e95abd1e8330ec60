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

	NamedToolChoice bool `json:"named_tool_choice"` // a call of one named tool can be forced
	Prefill         bool `json:"prefill"`           // the last turn may be the assistant's
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
	match string
	caps  Capabilities
}

var capabilityTable = mustReadCapabilities(capabilitiesJSON)

// mustReadCapabilities panics on a broken table: it is part of the program.
func mustReadCapabilities(data []byte) []capabilityEntry {
	var file struct {
		Models []json.RawMessage `json:"models"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		panic("translate: capabilities.json: " + err.Error())
	}
	table := make([]capabilityEntry, 0, len(file.Models))
	for _, line := range file.Models {
		var key struct {
			Match string `json:"match"`
		}
		caps := commonCapabilities
		if err := json.Unmarshal(line, &key); err != nil {
			panic("translate: capabilities.json: " + err.Error())
		}
		if err := json.Unmarshal(line, &caps); err != nil {
			panic("translate: capabilities.json: " + err.Error())
		}
		table = append(table, capabilityEntry{match: key.Match, caps: caps})
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
	id := foundationModel(model)
	if provider == "anthropic" && !strings.HasPrefix(id, "anthropic.") {
		id = "anthropic." + id
	}
	for _, e := range capabilityTable {
		if strings.HasPrefix(id, e.match) {
			return e.caps
		}
	}
	return commonCapabilities
}

// regionPrefixes lead the ids of inference profiles that span regions.
var regionPrefixes = []string{"us-gov.", "us.", "eu.", "apac.", "jp.", "au.", "ca.", "sa.", "me.", "af.", "global."}

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
	Sampling         string `yaml:"sampling" json:"sampling,omitempty"`
	Reasoning        string `yaml:"reasoning" json:"reasoning,omitempty"`
	StructuredOutput string `yaml:"structured_output" json:"structured_output,omitempty"`
	Tools            *bool  `yaml:"tools" json:"tools,omitempty"`
	ToolChoice       *bool  `yaml:"tool_choice" json:"tool_choice,omitempty"`
	Images           *bool  `yaml:"images" json:"images,omitempty"`
	Documents        *bool  `yaml:"documents" json:"documents,omitempty"`
	Stop             *bool  `yaml:"stop" json:"stop,omitempty"`
	System           *bool  `yaml:"system" json:"system,omitempty"`
	Cache            *bool  `yaml:"cache" json:"cache,omitempty"`
	StreamTools      *bool  `yaml:"stream_tools" json:"stream_tools,omitempty"`
	Context          int64  `yaml:"context" json:"context,omitempty"`       // tokens
	MaxOutput        int64  `yaml:"max_output" json:"max_output,omitempty"` // tokens
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
	if o.Context < 0 {
		return fmt.Errorf("context: %d is less than 0", o.Context)
	}
	if o.MaxOutput < 0 {
		return fmt.Errorf("max_output: %d is less than 0", o.MaxOutput)
	}
	return nil
}

// Apply returns c with the overrides laid over it.
func (o CapabilityOverrides) Apply(c Capabilities) Capabilities {
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
