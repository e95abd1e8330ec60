{{- define "router.name" -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}-inference-router{{- end }}
{{- define "router.labels" -}}
app.kubernetes.io/name: inference-router
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "router.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve]
env:
  {{- range .Values.secretEnv }}
  - name: {{ .name }}
    valueFrom:
      secretKeyRef: {name: {{ .secret }}, key: {{ .key }}, optional: {{ .optional | default false }}}
  {{- end }}
  - name: GOMEMLIMIT
    valueFrom:
      resourceFieldRef: {containerName: inference-router, resource: limits.memory}
volumeMounts:
  - {name: config, mountPath: /etc/inference-router, readOnly: true}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{- toYaml .Values.resources | nindent 2 }}
{{- end }}
{{- define "router.pod" -}}
serviceAccountName: {{ include "router.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
volumes:
  - name: config
    configMap: {name: {{ include "router.name" . }}}
{{- end }}
