{{/*
The Deployments of the release, as JSON {"groups": [...]}: one, or one for each of `routers`. Each has the name of its
objects, its router label, its whole configuration, and the values that `routers` may replace.
*/}}
{{- define "meridian.groups" -}}
{{- $root := . -}}
{{- $groups := list -}}
{{- if and .Values.only (not (hasKey .Values.routers .Values.only)) -}}
{{- fail (printf "only: %q is not one of routers: %s" .Values.only (keys .Values.routers | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if .Values.routers -}}
{{- range $router, $own := .Values.routers -}}
{{- if or (not $root.Values.only) (eq $router $root.Values.only) -}}
{{- $own = $own | default dict -}}
{{- $groups = append $groups (dict
    "root" $root "own" $own "router" $router
    "name" (printf "%s-%s" (include "meridian.fullname" $root) (regexReplaceAll "[^a-z0-9-]+" (lower $router) "-"))
    "region" ($own.region | default $router)) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- $groups = list (dict "root" $root "own" dict "router" "" "name" (include "meridian.fullname" $root) "region" "") -}}
{{- end -}}
{{- $whole := list -}}
{{- range $groups -}}
{{- $whole = append $whole (include "meridian.group" . | fromJson) -}}
{{- end -}}
{{- include "meridian.check.all" (dict "root" $root "groups" $whole) -}}
{{- dict "groups" $whole | toJson -}}
{{- end -}}

{{- define "meridian.group" -}}
{{- $values := .root.Values -}}
{{- $config := include "meridian.config" . | fromJson -}}
{{- $group := dict "name" .name "router" .router "config" $config -}}
{{- range list "replicas" "nodeSelector" "tolerations" "affinity" "resources" -}}
{{- $_ := set $group . (hasKey $.own . | ternary (get $.own .) (get $values .)) -}}
{{- end -}}
{{- $_ := set $group "autoscaling" (mergeOverwrite (deepCopy $values.autoscaling) (.own.autoscaling | default dict)) -}}
{{- $most := $group.autoscaling.enabled | ternary $group.autoscaling.max $group.replicas -}}
{{- include "meridian.check.group" (dict "root" .root "group" $group "most" $most "all" (len $values.routers)) -}}
{{- $group | toJson -}}
{{- end -}}

{{/* The configuration of one Deployment as JSON: the values, its own, and what only the chart knows. */}}
{{- define "meridian.config" -}}
{{- $values := .root.Values -}}
{{- $config := deepCopy $values.config -}}
{{- if $values.configToml -}}
{{- $config = fromToml $values.configToml -}}
{{- with $config.Error }}{{ fail (printf "configToml: %s" .) }}{{ end -}}
{{- end -}}
{{- $config = mergeOverwrite $config (deepCopy (.own.config | default dict)) -}}
{{- $router := deepCopy ($config.router | default dict) -}}
{{- if not $router.region -}}
{{- with .region }}{{ $_ := set $router "region" . }}{{ end -}}
{{- end -}}
{{- $_ := set $router "listen" (printf "%s:%d" $values.listenAddress (int $values.ports.clients)) -}}
{{- $_ := set $router "admin" (printf "%s:%d" $values.listenAddress (int $values.ports.admin)) -}}
{{- if $values.tls.secret -}}
{{- $_ := set $router "tls_cert" "/etc/router-tls/tls.crt" -}}
{{- $_ := set $router "tls_key" "/etc/router-tls/tls.key" -}}
{{- if $values.tls.clientCa }}{{ $_ := set $router "tls_client_ca" "/etc/router-tls/ca.crt" }}{{ end -}}
{{- end -}}
{{- $_ := set $config "router" $router -}}
{{- $scaling := deepCopy ($config.autoscaling | default dict) -}}
{{- if $values.keda.enabled -}}
{{- $_ := set $scaling "keda" (printf "%s:%d" $values.listenAddress (int $values.keda.port)) -}}
{{- end -}}
{{- if $values.externalMetrics.enabled -}}
{{- $_ := set $scaling "listen" (printf "%s:%d" $values.listenAddress (int $values.externalMetrics.port)) -}}
{{- range $key, $file := dict "tls_cert" "tls.crt" "tls_key" "tls.key" "tls_client_ca" "ca.crt" -}}
{{- $_ := set $scaling $key (printf "/etc/router-metrics-tls/%s" $file) -}}
{{- end -}}
{{- end -}}
{{- with $scaling }}{{ $_ := set $config "autoscaling" . }}{{ end -}}
{{- $config | toJson -}}
{{- end -}}

{{/* Environment variables that a configuration names, a line each. */}}
{{- define "meridian.variables" -}}
{{- range $key, $value := . -}}
{{- if kindIs "string" $value -}}
{{- if hasSuffix "_env" (toString $key) -}}
{{ $value }}{{ "\n" }}
{{- else if hasPrefix "env:" $value -}}
{{ trimPrefix "env:" $value }}{{ "\n" }}
{{- end -}}
{{- else if or (kindIs "map" $value) (kindIs "slice" $value) -}}
{{- include "meridian.variables" $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the router reads only at start. A change of these replaces the pods, a change of anything else does not. */}}
{{- define "meridian.atStart" -}}
{{- $config := . -}}
{{- $read := dict -}}
{{- range list
    "router.name" "router.listen" "router.admin" "router.workers" "router.share_port"
    "router.tls_cert" "router.tls_key" "router.tls_client_ca"
    "store.redis" "store.snapshot" "store.wait"
    "auth.admin_token_env" "auth.operators"
    "autoscaling.listen" "autoscaling.tls_cert" "autoscaling.tls_key" "autoscaling.tls_client_ca" "autoscaling.keda"
    "continuation.breaks" "limits.connections"
    "journal.records" "journal.path" "journal.file_bytes" "journal.files" "journal.diary" -}}
{{- $place := splitList "." . -}}
{{- $section := get $config (first $place) | default dict -}}
{{- if hasKey $section (last $place) -}}
{{- $_ := set $read . (get $section (last $place)) -}}
{{- end -}}
{{- end -}}
{{- $read | toJson -}}
{{- end -}}

{{/* Seconds from the end of preStop to that of the last stream, and 10 for the rest; see preStopSeconds. */}}
{{- define "meridian.grace" -}}
{{- $timeouts := .group.config.timeouts | default dict -}}
{{- $lead := hasKey $timeouts "lead" | ternary $timeouts.lead 5 -}}
{{- $drain := hasKey $timeouts "drain" | ternary $timeouts.drain 300 -}}
{{- addf .root.Values.preStopSeconds $lead $drain 10 | ceil | int -}}
{{- end -}}
