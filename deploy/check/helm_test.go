package check

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

const chartDir = "../helm/inference-router"

// render is the chart's objects, as `helm template` makes them of the values.
func render(values map[string]any) (string, error) {
	c, err := loader.Load(chartDir)
	if err != nil {
		return "", err
	}
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "test", Namespace: "default"}, chartutil.DefaultCapabilities)
	if err != nil {
		return "", err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	for name, text := range files {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(text) != "" {
			out.WriteString("---\n" + text + "\n")
		}
	}
	return out.String(), nil
}

func renderObjects(t *testing.T, values map[string]any) []any {
	t.Helper()
	text, err := render(values)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, []byte(text))
}

func sidecarValues(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile(chartDir + "/sidecar-values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	values, err := chartutil.ReadValues(text)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func TestChartDeploysASharedRouter(t *testing.T) {
	objects := renderObjects(t, nil)
	d, s := find[appsv1.Deployment](t, objects), find[corev1.Service](t, objects)
	pod := d.Spec.Template
	for k, v := range s.Spec.Selector {
		if pod.Labels[k] != v {
			t.Errorf("the Service selects %s=%s, the pods have %q", k, v, pod.Labels[k])
		}
	}
	c := pod.Spec.Containers[0]
	if c.ReadinessProbe.HTTPGet.Path != "/readyz" || c.LivenessProbe.HTTPGet.Path != "/livez" || c.StartupProbe == nil {
		t.Errorf("probes: %v %v %v", c.ReadinessProbe, c.LivenessProbe, c.StartupProbe)
	}
	if !*c.SecurityContext.ReadOnlyRootFilesystem || !*pod.Spec.SecurityContext.RunAsNonRoot {
		t.Error("the pod runs with privileges")
	}
	if len(c.Env) != 4 || c.Env[0].ValueFrom.SecretKeyRef.Name != "inference-router" {
		t.Errorf("environment: %v", c.Env)
	}
	config := find[corev1.ConfigMap](t, objects)
	if config.Name != pod.Spec.Volumes[0].ConfigMap.Name || !strings.Contains(config.Data["config.yaml"], "admin_listen: 0.0.0.0:9090") {
		t.Errorf("the pods mount %q, the configuration is %q", pod.Spec.Volumes[0].ConfigMap.Name, config.Name)
	}
}

func TestChartDeploysANativeSidecar(t *testing.T) {
	d := find[appsv1.Deployment](t, renderObjects(t, sidecarValues(t)))
	spec := d.Spec.Template.Spec
	if len(spec.InitContainers) != 1 || *spec.InitContainers[0].RestartPolicy != corev1.ContainerRestartPolicyAlways {
		t.Fatalf("init containers: %+v", spec.InitContainers)
	}
	if len(spec.Containers) != 1 || spec.Containers[0].Name != "application" || *spec.TerminationGracePeriodSeconds != 150 {
		t.Errorf("containers %+v, grace period %d s", spec.Containers, *spec.TerminationGracePeriodSeconds)
	}
}

func TestChartRefusesWrongValues(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"another mode":         {"mode": "daemonset"},
		"a misspelt value":     {"replica": 2},
		"no replica":           {"replicas": 0},
		"a secret with no key": {"secretEnv": []any{map[string]any{"name": "A", "secret": "b"}}},
	} {
		if _, err := render(values); err == nil || !strings.Contains(err.Error(), "schema") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
