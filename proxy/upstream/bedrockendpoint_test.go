package upstream

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
)

// The SDK's own resolver says where a region's endpoint is; its package is
// compiled into this test only.
func TestAWSHostsAreTheSDKs(t *testing.T) {
	regions := []string{"us-east-1", "eu-central-2", "ap-southeast-7", "sa-east-1", "ca-west-1", "me-south-1", "af-south-1", "il-central-1", "mx-central-1",
		"cn-north-1", "eusc-de-east-1", "us-iso-east-1", "us-isob-west-1", "eu-isoe-west-1", "us-isof-south-1", "us-gov-west-1", "xx-new-1"}
	sdk := bedrockruntime.NewDefaultEndpointResolverV2()
	for _, region := range regions {
		for _, variant := range []struct{ fips, dualStack bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
			want, err := sdk.ResolveEndpoint(context.Background(), bedrockruntime.EndpointParameters{
				Region: &region, UseFIPS: &variant.fips, UseDualStack: &variant.dualStack})
			if err != nil {
				t.Fatal(err)
			}
			if got := awsHost(bedrockRuntime, region, variant.fips, variant.dualStack); got != want.URI.Host {
				t.Errorf("%s %+v: got %s, the SDK has %s", region, variant, got, want.URI.Host)
			}
		}
	}
}

func TestAWSEndpointsFollowTheEnvironmentAsTheSDKDoes(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/none")
	for name, env := range map[string]map[string]string{
		"nothing":          nil,
		"one service":      {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "https://one.example/root/"},
		"all services":     {"AWS_ENDPOINT_URL": "https://all.example"},
		"both":             {"AWS_ENDPOINT_URL": "https://all.example", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "https://one.example"},
		"ignored":          {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "https://one.example"},
		"FIPS":             {"AWS_USE_FIPS_ENDPOINT": "true"},
		"dual stack":       {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
		"explicitly plain": {"AWS_USE_FIPS_ENDPOINT": "false"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range env {
				t.Setenv(k, v)
			}
			shared, err := loadAWS(BedrockConfig{Region: "us-west-2", Credentials: aws.AnonymousCredentials{}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := awsEndpoint(bedrockRuntime, shared, "")
			if err != nil {
				t.Fatal(err)
			}
			o := bedrockruntime.NewFromConfig(shared).Options()
			want, err := o.EndpointResolverV2.ResolveEndpoint(context.Background(), bedrockruntime.EndpointParameters{
				Region: &o.Region, Endpoint: o.BaseEndpoint,
				UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
				UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
			})
			if err != nil || got.Host != want.URI.Host {
				t.Errorf("got %s, the SDK has %s (%v)", got, want.URI.Host, err)
			}
		})
	}
}
