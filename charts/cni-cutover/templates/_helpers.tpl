{{- /*
Copyright The cni-cutover Authors
SPDX-License-Identifier: Apache-2.0
*/ -}}

{{- /* Object names are fixed: a cluster has one Cutover, so it has one coordinator and one set of agents. */ -}}

{{- /* labels of an object of a component; pass (dict "root" $ "name" "cutover-agent"). */ -}}
{{- define "cni-cutover.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: cni-cutover
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- /* image of a component; pass (dict "root" $ "repository" "x/y"). */ -}}
{{- define "cni-cutover.image" -}}
{{ .repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "cni-cutover.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* name of the Secret with the keys of the agents' questions to each other. */ -}}
{{- define "cni-cutover.probeSecret" -}}
{{ .Values.agent.pathProbes.secret | default "cutover-agent-probe" }}
{{- end }}

{{- /* env that both programs get: where the API server is, if the Service is not to be relied on. */ -}}
{{- define "cni-cutover.apiServer" -}}
{{- with .Values.kubernetes }}
{{- if .serviceHost }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .serviceHost | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ .servicePort | quote }}
{{- end }}
{{- end }}
{{- end }}
