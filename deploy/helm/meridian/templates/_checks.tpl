{{/* Combinations of values that would not do what they seem to, or that the API server or the router would refuse later. */}}

{{/* "true" if a configuration names no store that outlives the pod. */}}
{{- define "meridian.alone" -}}
{{- $redis := dig "store" "redis" "" . -}}
{{- or (not $redis) (eq $redis "embedded") -}}
{{- end -}}

{{/* Of one Deployment: {root, group, most, all}. */}}
{{- define "meridian.check.group" -}}
{{- $config := .group.config -}}
{{- if and (include "meridian.alone" $config | eq "true") (eq (dig "auth" "mode" "keys" $config) "keys") (or (gt (int .most) 1) (gt (int .all) 1)) -}}
{{- fail "config.store.redis: several routers need a store that they share, or keys made at one of them are unknown to the others; name one, or set replicas to 1" -}}
{{- end -}}
{{- if not (dig "auth" "admin_token_env" "" $config) -}}
{{- fail "config.auth.admin_token_env: other machines reach the admin address of a pod, so it needs a token" -}}
{{- end -}}
{{- with .group.autoscaling -}}
{{- if and .enabled (gt (int .min) (int .max)) -}}
{{- fail (printf "autoscaling: min (%d) is more than max (%d)" (int .min) (int .max)) -}}
{{- end -}}
{{- end -}}
{{- $region := $config.router.region -}}
{{- $regions := list -}}
{{- range $config.regions }}{{ $regions = append $regions .name }}{{ end -}}
{{- if and $region (not (has $region $regions)) -}}
{{- $key := empty .group.router | ternary "config.router.region" (printf "routers.%s.region" .group.router) -}}
{{- fail (printf "%s: %q is not one of config.regions (%s)" $key $region (empty $regions | ternary "none" (join ", " $regions))) -}}
{{- end -}}
{{- end -}}

{{/* Of the release: {root, groups}. */}}
{{- define "meridian.check.all" -}}
{{- $values := .root.Values -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" (include "meridian.fullname" .root)) -}}
{{- fail (printf "a Service cannot be named %q, after the release: set fullnameOverride" (include "meridian.fullname" .root)) -}}
{{- end -}}
{{- $names := dict -}}
{{- range .groups -}}
{{- if hasKey $names .name -}}
{{- fail (printf "routers: the objects of %q and %q would have the same name, %s" (get $names .name) .router .name) -}}
{{- end -}}
{{- $_ := set $names .name .router -}}
{{- end -}}
{{- with $values.externalMetrics -}}
{{- if .enabled -}}
{{- if not (and .secret (or .caBundle .annotations)) -}}
{{- fail "externalMetrics: the API server asks over TLS and checks the certificate, so it needs secret and caBundle, or annotations by which caBundle is written" -}}
{{- end -}}
{{- if not .clientCa -}}
{{- fail "externalMetrics: only the API server is answered, so the routers need the authority of its certificate, clientCa: requestheader-client-ca-file of the ConfigMap kube-system/extension-apiserver-authentication" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports := list $values.ports.clients $values.ports.admin -}}
{{- if $values.externalMetrics.enabled }}{{ $ports = append $ports $values.externalMetrics.port }}{{ end -}}
{{- if $values.keda.enabled }}{{ $ports = append $ports $values.keda.port }}{{ end -}}
{{- if ne (len $ports) (len ($ports | uniq)) -}}
{{- fail "ports.clients, ports.admin, externalMetrics.port and keda.port must differ" -}}
{{- end -}}
{{- include "meridian.check.pod" $values -}}
{{- include "meridian.check.engines" . -}}
{{- end -}}

{{/* Lists of a pod in which the API server takes nothing twice. Of the values. */}}
{{- define "meridian.check.pod" -}}
{{- $variables := list "ROUTER_CONFIG" "ROUTER_ADMIN_URL" -}}
{{- range .env -}}
{{- if has .name $variables -}}
{{- fail (printf "env: %s is there twice, or is one that the chart sets" .name) -}}
{{- end -}}
{{- $variables = append $variables .name -}}
{{- end -}}
{{- $names := list -}}
{{- $paths := list "/etc/router" "/etc/router-tls" "/etc/router-metrics-tls" "/var/lib/router" "/tmp" -}}
{{- range .mounts -}}
{{- $path := .path | trimSuffix "/" -}}
{{- if has .name $names -}}
{{- fail (printf "mounts: there are two of the name %s" .name) -}}
{{- end -}}
{{- if has $path $paths -}}
{{- fail (printf "mounts: %s: %s is the place of something else" .name .path) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- $paths = append $paths $path -}}
{{- end -}}
{{- end -}}

{{/* What KEDA scales: {root, groups}. */}}
{{- define "meridian.check.engines" -}}
{{- $groups := .groups -}}
{{- $values := .root.Values -}}
{{- $release := .root.Release.Namespace -}}
{{- $seen := list -}}
{{- if and $values.engines (not $values.keda.enabled) (eq $values.listenAddress "[::]") -}}
{{- fail "engines: over HTTP, KEDA cannot ask a router whose address is one of IPv6: set keda.enabled" -}}
{{- end -}}
{{- range .root.Values.engines -}}
{{- $label := printf "engines: %s" .name -}}
{{- $namespace := .namespace | default $release -}}
{{- if has (list $namespace .name) $seen -}}
{{- fail (printf "%s is there twice: a workload is scaled by one number" $label) -}}
{{- end -}}
{{- $seen = append $seen (list $namespace .name) -}}
{{- if and (ne $namespace $release) (not $values.keda.enabled) -}}
{{- fail (printf "%s: over HTTP, KEDA needs the Secret with the admin token in the namespace %s, too: set keda.enabled" $label $namespace) -}}
{{- end -}}
{{- if gt (int .min) (int .max) -}}
{{- fail (printf "%s: min (%d) is more than max (%d)" $label (int .min) (int .max)) -}}
{{- end -}}
{{- $goal := dig "models" .model dict (first $groups).config -}}
{{- if not (hasKey $goal "target_ttft_s") -}}
{{- fail (printf "%s: the routers know no number for %q: set config.models.%q.target_ttft_s" $label .model .model) -}}
{{- end -}}
{{- if and (not .region) (gt (len $groups) 1) -}}
{{- fail (printf "%s: there are routers of several regions, so say the region of the engines" $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
