package check

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	composetypes "github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	strictyaml "sigs.k8s.io/yaml"
)

// root is the repository, seen from this package.
const root = "../.."

// newObject makes the Go type of a kind, nil for an unknown one.
func newObject(kind string) any {
	switch kind {
	case "apps/v1 Deployment":
		return new(appsv1.Deployment)
	case "v1 ConfigMap":
		return new(corev1.ConfigMap)
	case "v1 Namespace":
		return new(corev1.Namespace)
	case "v1 Service":
		return new(corev1.Service)
	case "v1 ServiceAccount":
		return new(corev1.ServiceAccount)
	case "policy/v1 PodDisruptionBudget":
		return new(policyv1.PodDisruptionBudget)
	case "autoscaling/v2 HorizontalPodAutoscaler":
		return new(autoscalingv2.HorizontalPodAutoscaler)
	case "networking.k8s.io/v1 NetworkPolicy":
		return new(networkingv1.NetworkPolicy)
	}
	return nil
}

// decode reads manifests as the API server does with strict validation: an
// unknown or repeated field is an error.
func decode(t *testing.T, manifests []byte) []any {
	t.Helper()
	var objects []any
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifests)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		var meta metav1.TypeMeta
		if err := strictyaml.Unmarshal(document, &meta); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if meta.Kind == "" {
			continue // a comment
		}
		object := newObject(meta.APIVersion + " " + meta.Kind)
		if object == nil {
			t.Errorf("unexpected %s %s", meta.APIVersion, meta.Kind)
			continue
		}
		if err := strictyaml.UnmarshalStrict(document, object); err != nil {
			t.Errorf("%s: %v", meta.Kind, err)
			continue
		}
		objects = append(objects, object)
	}
}

func find[T any](t *testing.T, objects []any) *T {
	t.Helper()
	for _, o := range objects {
		if found, ok := o.(*T); ok {
			return found
		}
	}
	t.Fatalf("there is no %T", *new(T))
	return nil
}

func buildShared(t *testing.T) []any {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(root, "deploy/kubernetes/shared"))
	if err != nil {
		t.Fatalf("kustomize build: %v", err)
	}
	manifests, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, manifests)
}

func readSidecar(t *testing.T) []any {
	t.Helper()
	manifests, err := os.ReadFile(filepath.Join(root, "deploy/kubernetes/sidecar.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, manifests)
}

// routerConfig is as much of a router's configuration as the tests look at.
type routerConfig struct {
	Server struct {
		Listen       string `json:"listen"`
		AdminListen  string `json:"admin_listen"`
		DrainDelay   string `json:"drain_delay"`
		DrainTimeout string `json:"drain_timeout"`
	} `json:"server"`
	Identity struct {
		TrustedCIDRs []string `json:"trusted_cidrs"`
	} `json:"identity"`
}

func readConfig(t *testing.T, text []byte) routerConfig {
	t.Helper()
	var c routerConfig
	if err := strictyaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// drain is how long a router may take to end.
func (c routerConfig) drain(t *testing.T) time.Duration {
	t.Helper()
	sum := time.Duration(0)
	for _, text := range []string{c.Server.DrainDelay, c.Server.DrainTimeout} {
		if text == "" {
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		sum += d
	}
	if sum == 0 {
		t.Fatal("the configuration says nothing about draining")
	}
	return sum
}

func TestSharedDeploymentSelectsItsOwnPods(t *testing.T) {
	objects := buildShared(t)
	deployment := find[appsv1.Deployment](t, objects)
	pods := labels.Set(deployment.Spec.Template.Labels)
	selectors := map[string]labels.Selector{
		"Service": labels.SelectorFromSet(find[corev1.Service](t, objects).Spec.Selector),
	}
	for name, s := range map[string]*metav1.LabelSelector{
		"Deployment":          deployment.Spec.Selector,
		"PodDisruptionBudget": find[policyv1.PodDisruptionBudget](t, objects).Spec.Selector,
		"NetworkPolicy":       &find[networkingv1.NetworkPolicy](t, objects).Spec.PodSelector,
		"topology spread":     deployment.Spec.Template.Spec.TopologySpreadConstraints[0].LabelSelector,
	} {
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		selectors[name] = selector
	}
	for name, s := range selectors {
		if s.Empty() || !s.Matches(pods) {
			t.Errorf("%s selects %q, the pods are labelled %v", name, s, pods)
		}
	}
	target := find[autoscalingv2.HorizontalPodAutoscaler](t, objects).Spec.ScaleTargetRef
	if target.Kind != "Deployment" || target.Name != deployment.Name {
		t.Errorf("the autoscaler scales %s %s, want Deployment %s", target.Kind, target.Name, deployment.Name)
	}
}

func TestSharedDeploymentReadsTheGeneratedConfiguration(t *testing.T) {
	objects := buildShared(t)
	pod := find[appsv1.Deployment](t, objects).Spec.Template.Spec
	configMap := find[corev1.ConfigMap](t, objects)
	if got, want := pod.Volumes[0].ConfigMap.Name, configMap.Name; got != want || !strings.HasPrefix(got, "inference-router-") {
		t.Errorf("the pods mount ConfigMap %q, want the generated %q", got, want)
	}
	config := readConfig(t, []byte(configMap.Data["config.yaml"]))
	container := pod.Containers[0]
	for _, p := range container.Ports {
		want := map[string]string{"http": config.Server.Listen, "admin": config.Server.AdminListen}[p.Name]
		if got := netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(p.ContainerPort)).String(); got != want {
			t.Errorf("container port %s is %s, the configuration listens on %s", p.Name, got, want)
		}
	}
	for _, variable := range []string{"REDIS_URL", "WEB_KEY", "OPERATOR_KEY"} {
		if !strings.Contains(configMap.Data["config.yaml"], "${"+variable+"}") {
			t.Errorf("the configuration does not use ${%s}", variable)
		}
		i := slices.IndexFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == variable })
		if i < 0 || container.Env[i].ValueFrom == nil || container.Env[i].ValueFrom.SecretKeyRef == nil {
			t.Errorf("%s does not come from a secret", variable)
		}
	}
}

func TestPodsMayDrainBeforeTheyAreKilled(t *testing.T) {
	for name, objects := range map[string][]any{"shared": buildShared(t), "sidecar": readSidecar(t)} {
		pod := find[appsv1.Deployment](t, objects).Spec.Template.Spec
		drain := readConfig(t, []byte(find[corev1.ConfigMap](t, objects).Data["config.yaml"])).drain(t)
		grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
		if grace <= drain {
			t.Errorf("%s: terminationGracePeriodSeconds is %v, draining takes up to %v", name, grace, drain)
		}
	}
}

func TestPodsRunWithoutPrivileges(t *testing.T) {
	for name, objects := range map[string][]any{"shared": buildShared(t), "sidecar": readSidecar(t)} {
		pod := find[appsv1.Deployment](t, objects).Spec.Template.Spec
		if s := pod.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser == 0 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pod security context %+v, want non-root and the runtime's seccomp profile", name, s)
		}
		for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
			s := c.SecurityContext
			if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Contains(s.Capabilities.Drop, "ALL") {
				t.Errorf("%s: container %s: %+v, want no escalation, a read-only root and no capabilities", name, c.Name, s)
			}
			if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
				t.Errorf("%s: container %s has no CPU request, memory request or memory limit", name, c.Name)
			}
		}
	}
}

func TestProbesAskTheRightRoutes(t *testing.T) {
	c := find[appsv1.Deployment](t, buildShared(t)).Spec.Template.Spec.Containers[0]
	for name, probe := range map[string]struct {
		got  *corev1.Probe
		path string
	}{
		"startup": {c.StartupProbe, "/readyz"}, "readiness": {c.ReadinessProbe, "/readyz"}, "liveness": {c.LivenessProbe, "/livez"},
	} {
		if probe.got == nil || probe.got.HTTPGet == nil || probe.got.HTTPGet.Path != probe.path {
			t.Errorf("%s probe = %+v, want GET %s", name, probe.got, probe.path)
		}
	}
}

func TestComposeFileIsValidAndTrustsItsOwnNetwork(t *testing.T) {
	details := composetypes.ConfigDetails{
		WorkingDir:  root,
		ConfigFiles: []composetypes.ConfigFile{{Filename: filepath.Join(root, "docker-compose.yml")}},
		Environment: composetypes.Mapping{},
	}
	project, err := loader.LoadWithContext(context.Background(), details)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"router-1", "router-2", "router-3", "redis", "balancer"} {
		if _, err := project.GetService(name); err != nil {
			t.Errorf("service %s: %v", name, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy/compose/router.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := readConfig(t, text)
	subnet := project.Networks["router"].Ipam.Config[0].Subnet
	if got := config.Identity.TrustedCIDRs[0]; !strings.Contains(got, ":-"+subnet+"}") {
		t.Errorf("the routers trust %s, the network is %s", got, subnet)
	}
	for _, port := range project.Services["balancer"].Ports {
		if port.HostIP != "127.0.0.1" {
			t.Errorf("the balancer is published on %q, want loopback", port.HostIP)
		}
	}
	router := project.Services["router-1"]
	if grace := time.Duration(*router.StopGracePeriod); grace <= config.drain(t) {
		t.Errorf("stop_grace_period is %v, draining takes up to %v", grace, config.drain(t))
	}
	for _, service := range project.Services {
		for _, v := range service.Volumes {
			if _, err := os.Stat(v.Source); v.Type == composetypes.VolumeTypeBind && err != nil {
				t.Errorf("%s: %v", service.Name, err)
			}
		}
	}
}

func TestDockerfileParsesAndEndsUnprivileged(t *testing.T) {
	f, err := os.Open(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	warn := func(rule, description, _, message string, _ []parser.Range) {
		t.Errorf("%s: %s (%s)", rule, message, description)
	}
	stages, _, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{Warn: warn}))
	if err != nil {
		t.Fatal(err)
	}
	final := stages[len(stages)-1]
	if final.BaseName != "scratch" {
		t.Errorf("the image is based on %q, want scratch", final.BaseName)
	}
	var user string
	for _, c := range final.Commands {
		if u, ok := c.(*instructions.UserCommand); ok {
			user = u.User
		}
	}
	if user != "65532:65532" {
		t.Errorf("USER is %q, want the numeric 65532:65532", user)
	}
}

// The image is built from what .dockerignore leaves: it has to be enough.
func TestImageBuildsFromItsContext(t *testing.T) {
	ignore, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		t.Fatal(err)
	}
	defer ignore.Close()
	patterns, err := ignorefile.ReadAll(ignore)
	if err != nil {
		t.Fatal(err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	buildContext := t.TempDir()
	files := 0
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && entry.Name() == ".git" {
			return cmp.Or(err, fs.SkipDir)
		}
		name, err := filepath.Rel(root, path)
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if ignored, err := matcher.MatchesOrParentMatches(name); ignored || err != nil {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(buildContext, name)
		if strings.HasSuffix(name, "_test.go") || strings.Contains(name, "conformance") {
			t.Errorf("%s is sent to the image's build for nothing", name)
		}
		return errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, text, 0o644))
	})
	if err != nil || files == 0 {
		t.Fatalf("copy the build context: %d files, %v", files, err)
	}

	binary := filepath.Join(t.TempDir(), "inference-router")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, ".")
	build.Dir = buildContext
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Error("the binary is linked dynamically; an empty image has no loader for it")
		}
	}
	if out, err := exec.Command(binary, "version").Output(); err != nil || !strings.HasPrefix(string(out), "inference-router ") {
		t.Errorf("version prints %q, %v", out, err)
	}
}
