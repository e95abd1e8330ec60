package translate

import (
	"fmt"
	"strings"
	"testing"
)

// TestTheTableOfModelsInTheDocsIsThatOfTheCode compares docs/models.md with the
// table of capabilities; -update writes it.
func TestTheTableOfModelsInTheDocsIsThatOfTheCode(t *testing.T) {
	var doc strings.Builder
	doc.WriteString(`# What the router does for each model

Generated from translate/capabilities.json; a test keeps it true. It holds for models that requests are translated for: Bedrock and the
Anthropic API. Where a line tells two things apart, the second is Bedrock's. A model id belongs to the longest line that it begins with; a
further version number, and whatever else no line names, gets the line of its family, which ` + "`inference-router check`" + ` reports as a guess. An
upstream's ` + "`capabilities`" + ` correct the table, and what a model refuses in known words is left out from then on.

An id that says nothing of the model (an application inference profile, an imported model, a name that another server of the Anthropic API
gave) gets the last line on Bedrock, and that of a new Claude at the Anthropic API, unless ` + "`capabilities: {family: …}`" + ` names a family or a model id whose line holds. Without it, Bedrock is asked
what an application inference profile stands for. For embeddings it names the model, such as ` + "`amazon.titan-embed-text-v2:0`" + `. The families:
` + "`" + strings.Join(families(), "`, `") + "`" + `.

| model | forced tool | JSON schema | strict tools | thinking | effort | sampling | later system text | prefill | images | context | greatest output | source |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
`)
	for i := range capabilityTable {
		e := &capabilityTable[i]
		name := e.Match + "…"
		if e.Match == "" {
			name = "anything else"
		}
		cells := []string{"`" + name + "`"}
		for _, verdict := range []func(Capabilities) string{
			forcedVerdict, schemaVerdict, strictVerdict, thinkingVerdict, effortVerdict, samplingVerdict, systemVerdict, prefillVerdict,
			imagesVerdict, func(c Capabilities) string { return tokensOf(c.Context) }, func(c Capabilities) string { return tokensOf(c.MaxOutput) },
		} {
			own, aws := verdict(e.caps), verdict(e.aws)
			if own != aws {
				own += " / " + aws
			}
			cells = append(cells, own)
		}
		fmt.Fprintf(&doc, "| %s | %s |\n", strings.Join(cells, " | "), e.Source)
	}
	golden(t, "../docs/models.md", []byte(doc.String()))
}

func choose(yes bool, then, otherwise string) string {
	if yes {
		return then
	}
	return otherwise
}

func forcedVerdict(c Capabilities) string {
	switch {
	case !c.Tools:
		return "400: no tools"
	case !c.ToolChoice:
		return "asked by a sentence, named as dropped"
	}
	return choose(c.NamedToolChoice, "forced", "any, of the named tool alone")
}

func schemaVerdict(c Capabilities) string {
	switch {
	case c.StructuredOutput == "native":
		return "native; limits into descriptions"
	case c.StructuredOutput == "none" || !c.Tools:
		return "400"
	}
	return choose(c.ToolChoice, "a forced tool of ours", "a tool of ours and a sentence")
}

func strictVerdict(c Capabilities) string { return choose(c.StrictTools, "sent", "left out") }

func thinkingVerdict(c Capabilities) string {
	switch {
	case c.Reasoning == "none":
		return "no switch"
	case c.Thinking == "always":
		return c.Reasoning + ", always on"
	case c.Thinking == "default":
		return c.Reasoning + ", on unless disabled"
	}
	return c.Reasoning + ", on request"
}

func effortVerdict(c Capabilities) string {
	switch c.Reasoning {
	case "none":
		return "ignored"
	case "budget":
		return "as a budget"
	}
	return choose(c.Efforts == "", "as sent", "clamped to "+c.Efforts)
}

func samplingVerdict(c Capabilities) string {
	return map[string]string{"both": "sent", "either": "temperature or top_p", "none": "dropped"}[c.Sampling]
}

func systemVerdict(c Capabilities) string { return choose(c.MidSystem, "stays in place", "hoisted") }
func prefillVerdict(c Capabilities) string {
	return choose(c.Prefill, "sent", "asked to continue")
}
func imagesVerdict(c Capabilities) string { return choose(c.Images, "sent", "400") }

func tokensOf(n int64) string { return choose(n > 0, fmt.Sprint(n), "unknown") }
