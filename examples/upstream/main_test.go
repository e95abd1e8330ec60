package main

import (
	"net/http/httptest"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func TestShout(t *testing.T) {
	server, err := newServer()
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(server.Handler())
	defer listener.Close()
	client := openai.NewClient(option.WithBaseURL(listener.URL+"/v1"), option.WithAPIKey("any"))
	ask := openai.ChatCompletionNewParams{Model: "auto", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello there")}}
	whole, err := client.Chat.Completions.New(t.Context(), ask)
	if err != nil || whole.Choices[0].Message.Content != "HELLO THERE" {
		t.Fatalf("got %+v, %v", whole, err)
	}
	stream := client.Chat.Completions.NewStreaming(t.Context(), ask)
	text := ""
	for stream.Next() {
		text += stream.Current().Choices[0].Delta.Content
	}
	if stream.Err() != nil || text != "HELLO THERE" {
		t.Errorf("got %q, %v", text, stream.Err())
	}
}
