"""The folders of deploy/kubernetes."""

import functools
import json
import re
import tempfile
from pathlib import Path

import kubernetes_validate
import yaml

from tools import DEPLOY, documents, hold_against, one, program, run, sidestep

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted(p.name for p in (KUBERNETES / "overlays").iterdir())
# Beside the base and the overlays: the component that no overlay takes, put onto the base.
OPERATOR = "base with the Prometheus operator"
ALL = ["base", OPERATOR, *OVERLAYS]
# The oldest Kubernetes with surge updates of DaemonSets for all, and the newest that there are schemas of.
VERSIONS = ("1.25.0", kubernetes_validate.latest_version())
SCHEMAS = Path(__file__).with_name("schemas")


@functools.cache
def rendered(name: str) -> tuple[dict, ...]:
    """The objects that kustomize makes of a folder."""
    if name != OPERATOR:
        folder = KUBERNETES / ("base" if name == "base" else f"overlays/{name}")
        return tuple(documents(run(program("kustomize"), "build", str(folder))))
    with tempfile.TemporaryDirectory(dir=KUBERNETES) as folder:
        wanted = {"resources": ["../base"], "components": ["../components/prometheus-operator"]}
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(wanted))
        return tuple(documents(run(program("kustomize"), "build", folder)))


def pod(name: str) -> dict:
    """The pod that a rendering's DaemonSet makes."""
    return one(rendered(name), "DaemonSet")["spec"]["template"]["spec"]


def container(name: str) -> dict:
    """Its only container."""
    [only] = pod(name)["containers"]
    return only


def hold_against_schemas(objects: list[dict], where: str) -> None:
    """Kubernetes' schemas for its own kinds, unknown fields refused; ours, of the fields that we use, for the others."""
    for o in objects:
        what = f"{where}: {o['kind']} {o['metadata']['name']}"
        own = SCHEMAS / f"{o['kind']}.json"
        if own.exists():
            hold_against(json.loads(own.read_text()), o, what)
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(o, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise AssertionError(f"{what}, Kubernetes {version}: {error.message}") from error


def test_every_folder_builds_objects_of_kubernetes():
    assert len(OVERLAYS) >= 9, OVERLAYS
    for name in ALL:
        kinds = {o["kind"] for o in rendered(name)}
        assert {"DaemonSet", "ConfigMap", "Service", "ServiceAccount"} <= kinds, (name, kinds)
        assert {o["metadata"]["namespace"] for o in rendered(name)} == {"kube-system"}, name
        hold_against_schemas(rendered(name), name)
    for example in (KUBERNETES / "examples").iterdir():
        hold_against_schemas(documents(example.read_text()), example.name)


def arguments(daemonset: dict) -> list[str]:
    """Its arguments, as the kubelet fills them in; a variable that nobody gives stays as it is."""
    given = {"HOST_IP": "192.0.2.7", "KUBE_DNS_SERVICE_HOST": "10.96.0.10", "SIDESTEP_UPSTREAM_SERVICE_HOST": "10.96.0.11"}
    spec = daemonset["spec"]["template"]["spec"]
    [only] = spec["containers"]
    if "env" not in only:
        del given["HOST_IP"]
    assert spec["enableServiceLinks"], "nobody gives the addresses of Services"
    return [re.sub(r"\$\((\w+)\)", lambda m: given.get(m[1], m[0]), argument) for argument in only["args"]]


def accepted(objects: list[dict]) -> str:
    """What this program says that it would do with the arguments and the file of a rendering."""
    name = one(objects, "DaemonSet")["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]
    [file] = [o["data"]["sidestep.toml"] for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"] == name]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sidestep.toml").write_text(file)
        given = [a.replace("=/etc/sidestep/", f"={folder}/") for a in arguments(one(objects, "DaemonSet"))]
        return run(sidestep(), "check", *given)


def test_this_program_takes_arguments_and_file_of_every_folder():
    for name in ALL:
        said = accepted(rendered(name))
        assert 'upstreams = ["svc://sidestep-upstream-pods.kube-system.svc.cluster.local:53", "tcp://10.96.0.11:53"]' in said
        expected = "[]" if name == "cilium" else '["169.254.20.11"]' if name == "beside-addon" else '["169.254.20.10"'
        assert f"addresses = {expected}" in said, (name, said)
    assert '"fd00::10"]' in accepted(rendered("dual-stack"))
    assert "notrack_upstream = true" in accepted(rendered("kube-proxy-nftables"))
    assert 'addresses = ["169.254.20.10", "10.96.0.10"]' in accepted(rendered("kube-proxy-iptables"))


def test_services_named_in_arguments_are_there():
    for name in ALL:
        services = {o["metadata"]["name"]: o["spec"] for o in rendered(name) if o["kind"] == "Service"}
        for named in re.findall(r"svc://([\w-]+)", " ".join(container(name)["args"])):
            assert services[named]["clusterIP"] == "None", "svc:// is for headless Services"
        assert "clusterIP" not in services["sidestep-upstream"], "its address is the variable's"
        [metrics] = services["sidestep-metrics"]["ports"]
        assert isinstance(metrics["targetPort"], int), "pods on the host network have no named ports"
        assert metrics["targetPort"] == container(name)["livenessProbe"]["httpGet"]["port"]
        selected = services["sidestep-metrics"]["selector"].items()
        assert selected <= one(rendered(name), "DaemonSet")["spec"]["template"]["metadata"]["labels"].items()


def test_pods_have_what_they_need_and_no_more():
    for name in ALL:
        spec, only = pod(name), container(name)
        context, added = only["securityContext"], set(only["securityContext"]["capabilities"].get("add", []))
        is_iptables = "--firewall=iptables" in only["args"]
        expected = {"NET_ADMIN", "NET_BIND_SERVICE"} | ({"NET_RAW"} if is_iptables else set())
        assert added == (set() if name == "cilium" else expected), (name, added)
        assert context["capabilities"]["drop"] == ["ALL"]
        assert (context["runAsUser"] == 0) == bool(added), "capabilities are UID 0's alone"
        assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"] and not context["privileged"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["priorityClassName"] == "system-node-critical"
        assert {"operator": "Exists"} in spec["tolerations"]
        assert spec["dnsPolicy"] == "Default", "a cache that asks itself"
        hosts = [volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume]
        assert hosts == (["/run/xtables.lock"] if is_iptables else []), (name, hosts)
        assert only["livenessProbe"]["httpGet"]["path"] == "/health"
        assert only["readinessProbe"]["httpGet"]["path"] == "/ready"
        assert set(only["resources"]["requests"]) == {"cpu", "memory"} and set(only["resources"]["limits"]) == {"memory"}


def test_on_the_host_network_no_port_is_declared():
    for name in ALL:
        assert ("ports" in container(name)) != pod(name).get("hostNetwork", False), name
    assert one(rendered("surge"), "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_cilium_leads_to_ports_that_the_pod_has():
    policy = one(rendered("cilium"), "CiliumLocalRedirectPolicy")["spec"]
    wanted = {(p["name"], int(p["port"]), p["protocol"]) for p in policy["redirectBackend"]["toPorts"]}
    assert wanted == {(p["name"], p["containerPort"], p["protocol"]) for p in container("cilium")["ports"]}
    labels = one(rendered("cilium"), "DaemonSet")["spec"]["template"]["metadata"]["labels"].items()
    assert policy["redirectBackend"]["localEndpointSelector"]["matchLabels"].items() <= labels


def test_the_addon_is_replaced_by_name_and_selector():
    daemonset = one(rendered("replace-addon"), "DaemonSet")
    assert daemonset["metadata"]["name"] == "node-local-dns"
    assert daemonset["spec"]["selector"] == {"matchLabels": {"k8s-app": "node-local-dns"}}
    # An apply over an add-on that `kubectl apply` has not made leaves the probe's host.
    port = container("replace-addon")["livenessProbe"]["httpGet"]["port"]
    assert f"--http=169.254.20.10:{port}" in container("replace-addon")["args"], "nobody answers the add-on's probe"
    assert "169.254.20.10" in accepted(rendered("replace-addon")).split("http")[1]


def test_the_operators_rules_are_those_of_prometheus():
    groups = [g for f in ("recording", "alerts") for g in yaml.safe_load((DEPLOY / f"monitoring/{f}.yaml").read_text())["groups"]]
    assert one(rendered(OPERATOR), "PrometheusRule")["spec"]["groups"] == groups


def test_the_files_of_components_are_the_bases():
    base = (KUBERNETES / "base" / "sidestep.toml").read_text()
    untracked = (KUBERNETES / "components" / "untracked" / "sidestep.toml").read_text()
    assert untracked == base + "\n[node]\nnotrack_upstream = true\n"
