package upstream

import (
	"context"
	"errors"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// awsService is one of AWS's APIs: as it is named in hosts and in the SDK's
// configuration (AWS_ENDPOINT_URL_BEDROCK_RUNTIME, or endpoint_url of a services
// section).
type awsService struct{ host, sdkID string }

var (
	bedrockRuntime = awsService{"bedrock-runtime", "Bedrock Runtime"}
	bedrockControl = awsService{"bedrock", "Bedrock"}
)

// awsPartitions are the parts that AWS is divided into, by their regions. The
// source is the SDK's internal/endpoints/awsrulesfn; a test compares the two.
// The SDK's own resolver sits in the package of the service's client, which
// takes a third of a cold build.
var awsPartitions = []struct {
	regions        *regexp.Regexp
	suffix         string
	dualStackAlias string
}{
	{regexp.MustCompile(`^cn-\w+-\d+$`), "amazonaws.com.cn", "api.amazonwebservices.com.cn"},
	{regexp.MustCompile(`^eusc-de-\w+-\d+$`), "amazonaws.eu", "api.amazonwebservices.eu"},
	{regexp.MustCompile(`^us-iso-\w+-\d+$`), "c2s.ic.gov", "api.aws.ic.gov"},
	{regexp.MustCompile(`^us-isob-\w+-\d+$`), "sc2s.sgov.gov", "api.aws.scloud"},
	{regexp.MustCompile(`^eu-isoe-\w+-\d+$`), "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"},
	{regexp.MustCompile(`^us-isof-\w+-\d+$`), "csp.hci.ic.gov", "api.aws.hci.ic.gov"},
	{regexp.MustCompile(``), "amazonaws.com", "api.aws"}, // every other region, GovCloud's included
}

// awsEndpoint is the root of a service's API: configured, or AWS's own in the
// configuration's region.
func awsEndpoint(s awsService, c aws.Config, configured string) (*url.URL, error) {
	if configured == "" {
		configured = sharedEndpoint(s, c)
	}
	fips, dualStack := endpointVariants(c)
	if configured == "" {
		return &url.URL{Scheme: "https", Host: awsHost(s, c.Region, fips, dualStack)}, nil
	}
	if fips || dualStack {
		return nil, errors.New("FIPS and dual-stack endpoints are AWS's own: unset AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT, or name no other endpoint")
	}
	root, err := url.Parse(configured)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	root.Path = strings.TrimRight(root.Path, "/")
	return root, nil
}

// endpointVariants are what the environment or the AWS profile asks for.
func endpointVariants(c aws.Config) (fips, dualStack bool) {
	type fipsSource interface {
		GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error)
	}
	type dualStackSource interface {
		GetUseDualStackEndpoint(context.Context) (aws.DualStackEndpointState, bool, error)
	}
	return firstSetting(c, fipsSource.GetUseFIPSEndpoint) == aws.FIPSEndpointStateEnabled,
		firstSetting(c, dualStackSource.GetUseDualStackEndpoint) == aws.DualStackEndpointStateEnabled
}

// firstSetting is what the first source that sets something sets it to.
func firstSetting[S, T any](c aws.Config, get func(S, context.Context) (T, bool, error)) T {
	var none T
	for _, source := range c.ConfigSources {
		if s, ok := source.(S); ok {
			if v, found, err := get(s, context.Background()); found && err == nil {
				return v
			}
		}
	}
	return none
}

// sharedEndpoint is the address that the environment or the AWS profile names
// for a service; "" when they name none. The order is the SDK's: a variable for
// this service, the variable for all, the profile.
func sharedEndpoint(s awsService, c aws.Config) string {
	type ignoreSource interface {
		GetIgnoreConfiguredEndpoints(context.Context) (bool, bool, error)
	}
	type endpointSource interface {
		GetServiceBaseEndpoint(context.Context, string) (string, bool, error)
	}
	all := os.Getenv("AWS_ENDPOINT_URL") != ""
	one := os.Getenv("AWS_ENDPOINT_URL_"+strings.ToUpper(strings.ReplaceAll(s.sdkID, " ", "_"))) != ""
	if (one || !all) && !firstSetting(c, ignoreSource.GetIgnoreConfiguredEndpoints) {
		own := firstSetting(c, func(from endpointSource, ctx context.Context) (string, bool, error) {
			return from.GetServiceBaseEndpoint(ctx, s.sdkID)
		})
		if own != "" {
			return own
		}
	}
	return aws.ToString(c.BaseEndpoint)
}

// awsHost is the host of a service in a region.
func awsHost(s awsService, region string, fips, dualStack bool) string {
	name := s.host
	if fips {
		name += "-fips"
	}
	for _, p := range awsPartitions {
		if !p.regions.MatchString(region) {
			continue
		}
		if dualStack {
			return name + "." + region + "." + p.dualStackAlias
		}
		return name + "." + region + "." + p.suffix
	}
	return ""
}
