{{/*
What the routers ask of the API of the cluster they run in, as JSON: {"namespaces": {NAMESPACE: [rules]}, "nodes": bool}.
[[sources]] of kind "kubernetes" read EndpointSlices and the annotations of their Services, and nodes if they say so; [models.X.wake] scale sets the replicas of
one workload. None of it counts where an address of another API is given.
*/}}
{{- define "meridian.cluster" -}}
{{- $root := . -}}
{{- $slices := list -}}
{{- $scales := list -}}
{{- $nodes := false -}}
{{- range (include "meridian.groups" . | fromJson).groups -}}
{{- range .config.sources -}}
{{- if and (eq (.kind | default "") "kubernetes") (not .api) -}}
{{- $slices = append $slices (.namespace | default $root.Release.Namespace) -}}
{{- $nodes = or $nodes (.nodes | default false) -}}
{{- end -}}
{{- end -}}
{{- range $model := .config.models -}}
{{- $wake := $model.wake | default dict -}}
{{- if and (regexMatch "^[^/]+/[^/]+/[^/]+$" ($wake.scale | default "")) (not $wake.api) -}}
{{- $scales = append $scales $wake.scale -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $namespaces := dict -}}
{{- range $slices | uniq -}}
{{- $read := list "get" "list" "watch" -}}
{{- $_ := set $namespaces . (list
    (dict "apiGroups" (list "discovery.k8s.io") "resources" (list "endpointslices") "verbs" $read)
    (dict "apiGroups" (list "") "resources" (list "services") "verbs" $read)) -}}
{{- end -}}
{{- range $scales | uniq | sortAlpha -}}
{{- $place := splitList "/" . -}}
{{- $rule := dict "apiGroups" (list "apps") "resources" (list (printf "%s/scale" (index $place 1))) "resourceNames" (list (index $place 2)) "verbs" (list "get" "patch") -}}
{{- $_ := set $namespaces (first $place) (append (get $namespaces (first $place) | default list) $rule) -}}
{{- end -}}
{{- dict "namespaces" $namespaces "nodes" $nodes | toJson -}}
{{- end -}}

{{/* "true" if the routers need a token for it. */}}
{{- define "meridian.asksCluster" -}}
{{- empty (include "meridian.cluster" . | fromJson).namespaces | ternary "false" "true" -}}
{{- end -}}

{{- define "meridian.subject" -}}
subjects:
  - {kind: ServiceAccount, name: {{ include "meridian.serviceAccount" . | quote }}, namespace: {{ .Release.Namespace | quote }}}
{{- end -}}
