{{- define "name" -}}
{{- $both := printf "%s-%s" .Release.Name .Chart.Name }}
{{- ternary .Release.Name $both (contains .Chart.Name .Release.Name) | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "labels" -}}
{{ include "selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The names of Secrets, yours or the chart's; empty where there is none. */}}
{{- define "hostKeySecret" -}}
{{- with .Values.hostKey }}{{ .existingSecret | default (ternary (printf "%s-ssh" (include "name" $)) "" (ne .privateKey "")) }}{{ end }}
{{- end }}

{{- define "cookiesSecret" -}}
{{- with .Values.cookies }}{{ .existingSecret | default (ternary (printf "%s-cookies" (include "name" $)) "" (ne .secrets "")) }}{{ end }}
{{- end }}

{{- define "tlsSecret" -}}
{{- with .Values.tls }}{{ .existingSecret | default (ternary (printf "%s-tls" (include "name" $)) "" (or .certManager.enabled (ne .certificate ""))) }}{{ end }}
{{- end }}

{{/* How long ports stay open at a stop. A load balancer finds out by its health check of the node, where only that leads here. */}}
{{- define "preStop" -}}
{{- $byHealthCheck := and (ne .Values.service.type "ClusterIP") (eq .Values.service.externalTrafficPolicy "Local") }}
{{- kindIs "invalid" .Values.preStopSeconds | ternary (ternary 20 5 $byHealthCheck) .Values.preStopSeconds }}
{{- end }}

{{- define "host" -}}
{{ get (urlParse .Values.baseUrl) "hostname" }}
{{- end }}
