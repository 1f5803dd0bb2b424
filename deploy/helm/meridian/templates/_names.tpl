{{/* Names and labels of objects. */}}

{{- define "meridian.fullname" -}}
{{- .Values.fullnameOverride | default (contains "meridian" .Release.Name | ternary .Release.Name (printf "%s-meridian" .Release.Name)) | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "meridian.labels" -}}
{{ include "meridian.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end -}}

{{/* All routers of the release. */}}
{{- define "meridian.selector" -}}
app.kubernetes.io/name: meridian
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* The routers of one Deployment: {root, group}. */}}
{{- define "meridian.group.selector" -}}
{{ include "meridian.selector" .root }}
app.kubernetes.io/component: router
{{- with .group.router }}
meridian/router: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "meridian.secret" -}}
{{- .Values.secret.name | default (include "meridian.fullname" .) -}}
{{- end -}}

{{- define "meridian.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "meridian.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "meridian.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A name as the value of a label spells it, and as the router knows it, too. */}}
{{- define "meridian.label" -}}
{{- regexReplaceAll "[^A-Za-z0-9_.-]+" (. | default "") "_" | trunc 63 | trimAll "_.-" -}}
{{- end -}}
