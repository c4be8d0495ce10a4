{{/* The labels of every object. */}}
{{- define "sidestep.labels" -}}
app.kubernetes.io/name: sidestep
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: node-local-dns
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What the pods bear, and Services and monitors select. */}}
{{- define "sidestep.podLabels" -}}
app.kubernetes.io/name: {{ .Values.name }}
{{- end }}

{{/* The variable in which Kubernetes gives the address of a Service of the namespace. */}}
{{- define "sidestep.serviceHost" -}}
$({{ . | replace "-" "_" | upper }}_SERVICE_HOST)
{{- end }}

{{/* The targets that cluster names are asked of: the pods, and the Service's address. */}}
{{- define "sidestep.upstreams" -}}
{{- $pods := printf "svc://%s-upstream-pods.%s.svc.%s" .Values.name .Release.Namespace .Values.clusterDomain }}
{{- $service := printf "tcp://%s" (include "sidestep.serviceHost" (printf "%s-upstream" .Values.name)) }}
{{- range list .Values.clusterDomain "in-addr.arpa" "ip6.arpa" }}
- --upstream={{ . }}={{ $pods }}
- --upstream={{ . }}={{ $service }}
{{- end }}
{{- end }}

{{/* The policy, for the cluster's domain. */}}
{{- define "sidestep.config" -}}
{{- if .Values.config }}
{{- .Values.config }}
{{- else }}
{{- .Files.Get "files/sidestep.toml" | replace "\"cluster.local\"" (quote .Values.clusterDomain) }}
{{- $isElsewhere := ne .Values.clusterDomain "cluster.local" }}
{{- if or $isElsewhere .Values.notrackUpstream }}
[node]
{{- if $isElsewhere }}
cluster_domain = {{ quote .Values.clusterDomain }}
{{- end }}
{{- if .Values.notrackUpstream }}
notrack_upstream = true
{{- end }}
{{ end }}
{{- end }}
{{- end }}

{{/* What the schema cannot say. */}}
{{- define "sidestep.check" -}}
{{- if and .Values.clusterDns.holdAddress (ne .Release.Namespace "kube-system") }}
{{- fail "clusterDns.holdAddress: Kubernetes gives the Service's address to pods of its own namespace alone: install with --namespace kube-system" }}
{{- end }}
{{- if and .Values.replaceAddon (ne .Release.Namespace "kube-system") }}
{{- fail "replaceAddon: the add-on's DaemonSet is in kube-system, and one of that name elsewhere would hold the same addresses beside it: install with --namespace kube-system" }}
{{- end }}
{{- if and .Values.replaceAddon .Values.cilium }}
{{- fail "replaceAddon: the add-on's pods are on the host network, and with cilium ours are not: leave replaceAddon out, and delete the add-on once ours answers" }}
{{- end }}
{{- if and .Values.notrackUpstream (or .Values.cilium (has .Values.firewall (list "iptables" "none"))) }}
{{- fail "notrackUpstream needs rules of nftables: firewall auto or nftables, not cilium" }}
{{- end }}
{{- if and .Values.cilium (or .Values.clusterDns.holdAddress .Values.surge (eq .Values.firewall "iptables")) }}
{{- fail "cilium: holdAddress, surge and firewall iptables are for pods on the host network" }}
{{- end }}
{{- end }}
