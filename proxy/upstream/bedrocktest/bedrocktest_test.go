package bedrocktest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	"github.com/aws/smithy-go"

	"github.com/inference-router/inference-router/proxy/upstream/bedrocktest"
)

// typedClient is the AWS SDK as its users have it: the fake must satisfy it.
func typedClient(s *bedrocktest.Server, secret string) *bedrockruntime.Client {
	return bedrockruntime.New(bedrockruntime.Options{
		Region: bedrocktest.Region, BaseEndpoint: aws.String(s.URL), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(bedrocktest.AccessKey, secret, ""),
	})
}

const profileARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-6"

func converse(c *bedrockruntime.Client) (*bedrockruntime.ConverseOutput, error) {
	return c.Converse(context.Background(), &bedrockruntime.ConverseInput{
		ModelId:  aws.String(profileARN),
		Messages: hi,
	})
}

var hi = []types.Message{{Role: "user", Content: []types.ContentBlock{&types.ContentBlockMemberText{Value: "hi"}}}}

func TestTheTypedClientReadsTheFakesWholeAnswer(t *testing.T) {
	s := bedrocktest.New(t)
	out, err := converse(typedClient(s, bedrocktest.SecretKey))
	if err != nil {
		t.Fatal(err)
	}
	text := out.Output.(*types.ConverseOutputMemberMessage).Value.Content[0].(*types.ContentBlockMemberText).Value
	if text != "Hello." || aws.ToInt32(out.Usage.InputTokens) != 10 {
		t.Errorf("got %q and %d input tokens, want Hello. and 10", text, aws.ToInt32(out.Usage.InputTokens))
	}
	if got := s.Requests()[0].Model; got != profileARN {
		t.Errorf("the fake saw model %q, want %q", got, profileARN)
	}
}

func TestTheTypedClientReadsTheFakesStream(t *testing.T) {
	s := bedrocktest.New(t)
	out, err := typedClient(s, bedrocktest.SecretKey).ConverseStream(context.Background(), &bedrockruntime.ConverseStreamInput{ModelId: aws.String("m"), Messages: hi})
	if err != nil {
		t.Fatal(err)
	}
	text, stopped := "", false
	for e := range out.GetStream().Events() {
		switch e := e.(type) {
		case *types.ConverseStreamOutputMemberContentBlockDelta:
			text += e.Value.Delta.(*types.ContentBlockDeltaMemberText).Value
		case *types.ConverseStreamOutputMemberMessageStop:
			stopped = true
		}
	}
	if err := out.GetStream().Err(); err != nil || text != "Hello." || !stopped {
		t.Errorf("got %q, stopped %t, error %v", text, stopped, err)
	}
}

func TestTheFakeRefusesWhatBedrockRefuses(t *testing.T) {
	hello := `"messages":[{"role":"user","content":[{"text":"a"}]}]`
	call := `"messages":[{"role":"user","content":[{"text":"a"}]},{"role":"assistant","content":[{"toolUse":{"toolUseId":"t","name":"f","input":{}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"t","content":[{"text":"r"}]}}]}]`
	for name, row := range map[string]struct {
		body string
		good bool
	}{
		"one message":           {hello, true},
		"a call and its result": {call + `,"toolConfig":{"tools":[{"toolSpec":{"name":"f","inputSchema":{"json":{"type":"object"}}}}]}`, true},
		"no toolConfig":         {call, false}, "no messages": {`"messages":[]`, false},
		"an unknown member":       {hello + `,"top_k":5`, false},
		"a number as string":      {hello + `,"inferenceConfig":{"maxTokens":"5"}`, false},
		"two members of a union":  {`"messages":[{"role":"user","content":[{"text":"a","cachePoint":{"type":"default"}}]}]`, false},
		"blank text":              {`"messages":[{"role":"user","content":[{"text":" "}]}]`, false},
		"the assistant first":     {`"messages":[{"role":"assistant","content":[{"text":"a"}]}]`, false},
		"a bare service tier":     {hello + `,"serviceTier":"flex"`, false},
		"an unknown service tier": {hello + `,"serviceTier":{"type":"auto"}`, false},
		"an empty tool list":      {hello + `,"toolConfig":{"tools":[]}`, false},
		"a schema without type":   {hello + `,"toolConfig":{"tools":[{"toolSpec":{"name":"f","inputSchema":{"json":{}}}}]}`, false},
		"image/jpg":               {`"messages":[{"role":"user","content":[{"image":{"format":"jpg","source":{"bytes":"AAAA"}}}]}]`, false},
		"null":                    {hello + `,"system":null`, false},
	} {
		if err := bedrocktest.CheckConverse([]byte("{"+row.body+"}"), false); (err == nil) != row.good {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTheFakeRefusesAWrongSignature(t *testing.T) {
	s := bedrocktest.New(t)
	_, err := converse(typedClient(s, "another secret"))
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "InvalidSignatureException" {
		t.Errorf("got %v, want InvalidSignatureException", err)
	}
}

func TestTheTypedClientSeesTheFakesFaults(t *testing.T) {
	for _, row := range []struct {
		name   string
		answer bedrocktest.Answer
		code   string
	}{
		{"an error before the stream", bedrocktest.Answer{Status: 429, ErrorType: "ThrottlingException", Body: `{"message":"slow down"}`}, "ThrottlingException"},
		{"an exception as first frame", bedrocktest.Answer{Frames: []bedrocktest.Frame{bedrocktest.Exception("throttlingException", "slow down")}}, "ThrottlingException"},
		{"an unmodeled error", bedrocktest.Answer{Frames: []bedrocktest.Frame{{ErrorCode: "Boom", JSON: "it broke"}}}, "Boom"},
		{"a damaged frame", bedrocktest.Answer{Frames: []bedrocktest.Frame{{Event: "messageStart", JSON: `{"role":"assistant"}`, Corrupt: true}}}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := bedrocktest.New(t, row.answer)
			out, err := typedClient(s, bedrocktest.SecretKey).ConverseStream(context.Background(), &bedrockruntime.ConverseStreamInput{ModelId: aws.String("m"), Messages: hi})
			if err == nil {
				for range out.GetStream().Events() { //nolint:revive // read to the end, where the error is
				}
				err = out.GetStream().Err()
			}
			var api smithy.APIError
			if err == nil || row.code != "" && (!errors.As(err, &api) || api.ErrorCode() != row.code) {
				t.Errorf("got %v, want %s", err, row.code)
			}
		})
	}
}
