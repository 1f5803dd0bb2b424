{{/* A table of TOML, without its own heading: {path, table}. Plain values first, then tables, in the order of their names. */}}
{{- define "meridian.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .table -}}
{{- if not (or (kindIs "invalid" $value) (include "meridian.toml.tables" $value)) -}}
{{ include "meridian.toml.key" $key }} = {{ include "meridian.toml.value" $value }}{{ "\n" }}
{{- end -}}
{{- end -}}
{{- range $key, $value := .table -}}
{{- $inner := printf "%s%s" (empty $path | ternary "" (printf "%s." $path)) (include "meridian.toml.key" $key) -}}
{{- $kind := include "meridian.toml.tables" $value -}}
{{- if eq $kind "one" -}}
{{- if include "meridian.toml.heading" $value -}}
{{ "\n" }}[{{ $inner }}]{{ "\n" }}
{{- end -}}
{{- include "meridian.toml" (dict "path" $inner "table" $value) -}}
{{- else if eq $kind "many" -}}
{{- range $value -}}
{{ "\n" }}[[{{ $inner }}]]{{ "\n" }}
{{- include "meridian.toml" (dict "path" $inner "table" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "one" for a table, "many" for a list of tables, else nothing. */}}
{{- define "meridian.toml.tables" -}}
{{- if kindIs "map" . -}}
one
{{- else if and (kindIs "slice" .) . -}}
{{- if kindIs "map" (first .) -}}many{{- end -}}
{{- end -}}
{{- end -}}

{{/* Not empty if a table needs its heading: one that holds tables only is there by theirs. */}}
{{- define "meridian.toml.heading" -}}
{{- if empty . -}}true{{- end -}}
{{- range . -}}
{{- if not (include "meridian.toml.tables" .) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{- define "meridian.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{ . }}{{- else -}}{{ toJson . }}{{- end -}}
{{- end -}}

{{- define "meridian.toml.value" -}}
{{- if kindIs "string" . -}}
{{ toJson . }}
{{- else if kindIs "slice" . -}}
[{{ range $index, $item := . }}{{ if $index }}, {{ end }}{{ include "meridian.toml.value" $item }}{{ end }}]
{{- else if and (kindIs "float64" .) (eq (toString .) (toString (floor .))) -}}
{{ printf "%.0f" . }}
{{- else -}}
{{ toString . }}
{{- end -}}
{{- end -}}
