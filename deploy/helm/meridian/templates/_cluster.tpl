{{/*
What the routers ask of the API of the cluster they run in, as JSON: {"namespaces": [...], "nodes": bool}. They need it for
[[sources]] of kind "kubernetes" without an address of another API.
*/}}
{{- define "meridian.cluster" -}}
{{- $root := . -}}
{{- $namespaces := list -}}
{{- $nodes := false -}}
{{- range (include "meridian.groups" . | fromJson).groups -}}
{{- range .config.sources -}}
{{- if and (eq .kind "kubernetes") (not .api) -}}
{{- $namespaces = append $namespaces (.namespace | default $root.Release.Namespace) -}}
{{- $nodes = or $nodes (.nodes | default false) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "namespaces" ($namespaces | uniq | sortAlpha) "nodes" $nodes | toJson -}}
{{- end -}}

{{/* "true" if the routers need a token for it. */}}
{{- define "meridian.asksCluster" -}}
{{- empty (include "meridian.cluster" . | fromJson).namespaces | ternary "false" "true" -}}
{{- end -}}

{{- define "meridian.subject" -}}
subjects:
  - {kind: ServiceAccount, name: {{ include "meridian.serviceAccount" . }}, namespace: {{ .Release.Namespace }}}
{{- end -}}
