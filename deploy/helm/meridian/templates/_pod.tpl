{{/* The pod of one Deployment: {root, group, selector}. */}}
{{- define "meridian.pod" -}}
{{- $values := .root.Values -}}
serviceAccountName: {{ include "meridian.serviceAccount" .root | quote }}
# Only a router that asks the cluster's API gets a token for it.
automountServiceAccountToken: {{ include "meridian.asksCluster" .root | eq "true" }}
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "meridian.grace" . }}
securityContext:
  runAsNonRoot: true
  {{- with $values.user }}
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  fsGroup: {{ . }}
  {{- end }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .group.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .group.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .group.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.topologySpread.enabled }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: {{ $values.topologySpread.whenUnsatisfiable }}
    # Pods of the version before do not count in a rollout.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- $.selector | nindent 8 }}
  {{- end }}
{{- end }}
containers:
  - name: router
    image: {{ include "meridian.image" .root }}
    imagePullPolicy: {{ $values.image.pullPolicy }}
    args: [serve, --config, /etc/router/regions.toml, --log-format, json]
    {{- include "meridian.environment" . | nindent 4 }}
    ports:
      - {name: clients, containerPort: {{ $values.ports.clients }}, protocol: TCP}
      - {name: admin, containerPort: {{ $values.ports.admin }}, protocol: TCP}
      {{- if $values.externalMetrics.enabled }}
      - {name: metrics, containerPort: {{ $values.externalMetrics.port }}, protocol: TCP}
      {{- end }}
      {{- if $values.keda.enabled }}
      - {name: keda, containerPort: {{ $values.keda.port }}, protocol: TCP}
      {{- end }}
    # It has read its configuration, asked its store and its backends, and listens to clients.
    startupProbe:
      tcpSocket: {port: clients}
      {{- toYaml $values.probes.startup | nindent 6 }}
    # A backend can be used and keys can be checked; not once it is told to stop.
    readinessProbe:
      httpGet: {path: /readyz, port: admin, scheme: HTTP}
      {{- toYaml $values.probes.readiness | nindent 6 }}
    # The process answers, whatever its backends and its store do.
    livenessProbe:
      httpGet: {path: /healthz, port: admin, scheme: HTTP}
      {{- toYaml $values.probes.liveness | nindent 6 }}
    {{- with $values.preStopSeconds }}
    lifecycle:
      # Serve as before until every node and balancer knows that this pod goes.
      preStop:
        sleep: {seconds: {{ . }}}
    {{- end }}
    resources:
      {{- toYaml .group.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts:
      # Whole folders: a file mounted with subPath never changes.
      - {name: configuration, mountPath: /etc/router, readOnly: true}
      - {name: data, mountPath: /var/lib/router}
      - {name: temporary, mountPath: /tmp}
      {{- if $values.tls.secret }}
      - {name: tls, mountPath: /etc/router-tls, readOnly: true}
      {{- end }}
      {{- if $values.externalMetrics.enabled }}
      - {name: metrics-tls, mountPath: /etc/router-metrics-tls, readOnly: true}
      {{- end }}
      {{- range $values.mounts }}
      - {name: {{ printf "mount-%s" .name | quote }}, mountPath: {{ .path | quote }}, readOnly: true}
      {{- end }}
volumes:
  - name: configuration
    configMap: {name: {{ .group.name | quote }}}
  - name: data
    emptyDir: {sizeLimit: {{ $values.dataSize }}}
  - name: temporary
    emptyDir: {sizeLimit: 256Mi}
  {{- with $values.tls.secret }}
  - name: tls
    secret: {secretName: {{ . | quote }}, defaultMode: 0440}
  {{- end }}
  {{- if $values.externalMetrics.enabled }}
  # The Secret may have a ca.crt of its own: that of the authority of tls.crt.
  - name: metrics-tls
    projected:
      defaultMode: 0440
      sources:
        - secret:
            name: {{ $values.externalMetrics.secret | quote }}
            items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
        - configMap:
            name: {{ printf "%s-metrics" (include "meridian.fullname" .root) | quote }}
            items: [{key: ca.crt, path: ca.crt}]
  {{- end }}
  {{- range $values.mounts }}
  - name: {{ printf "mount-%s" .name | quote }}
    {{- if .secret }}
    secret: {secretName: {{ .secret | quote }}, defaultMode: 0440}
    {{- else }}
    configMap: {name: {{ .configMap | quote }}}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* The variables of the values, and those that the configuration names and they do not, from Secrets. */}}
{{- define "meridian.environment" -}}
{{- $root := .root -}}
{{- $own := list -}}
{{- range $root.Values.env }}{{ $own = append $own .name }}{{ end -}}
{{- $names := include "meridian.variables" .group.config | splitList "\n" | compact | uniq | sortAlpha -}}
env:
  # For `router` as a command inside the container.
  - {name: ROUTER_CONFIG, value: /etc/router/regions.toml}
  - {name: ROUTER_ADMIN_URL, value: "http://localhost:{{ $root.Values.ports.admin }}"}
  {{- range $names }}
  {{- if not (has . $own) }}
  {{- $from := get $root.Values.secret.from . | default dict }}
  - name: {{ . | quote }}
    valueFrom:
      secretKeyRef: {name: {{ $from.name | default (include "meridian.secret" $root) | quote }}, key: {{ $from.key | default . | quote }}}
  {{- end }}
  {{- end }}
  {{- with $root.Values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
