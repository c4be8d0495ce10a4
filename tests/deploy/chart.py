"""The chart deploy/helm/sidestep: it makes what kustomize makes."""

import json
import subprocess

import yaml

import manifests
from tools import DEPLOY, documents, one, program, run

CHART = DEPLOY / "helm" / "sidestep"
VERSION = "1.34.0"
# The values that stand for each folder of deploy/kubernetes.
VALUES = {
    "base": {},
    manifests.OPERATOR: {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
    "kube-proxy-iptables": {"clusterDns": {"holdAddress": True}},
    "kube-proxy-nftables": {"clusterDns": {"holdAddress": True}, "firewall": "nftables", "notrackUpstream": True},
    "kube-proxy-ipvs": {},
    "iptables-backend": {"clusterDns": {"holdAddress": True}, "firewall": "iptables"},
    "dual-stack": {"addresses": ["169.254.20.10", "fd00::10"], "clusterDns": {"ipFamilyPolicy": "PreferDualStack"}},
    "cilium": {"cilium": True},
    "surge": {"clusterDns": {"holdAddress": True}, "surge": True},
    "replace-addon": {"clusterDns": {"holdAddress": True}, "replaceAddon": True},
    "beside-addon": {
        "addresses": ["169.254.20.11"],
        "interface": "sidestep",
        "http": {"port": 9354},
        "nodeSelector": {"sidestep/try": "yes"},
    },
}


def template(values: dict, namespace: str = "kube-system") -> subprocess.CompletedProcess:
    """What helm says to these values."""
    command = [program("helm"), "template", "sidestep", str(CHART), "--namespace", namespace, "--kube-version", VERSION]
    return subprocess.run([*command, "--values", "-"], input=yaml.safe_dump(values), capture_output=True, text=True, timeout=60)


def rendered(values: dict) -> list[dict]:
    """The objects that it makes of them."""
    done = template(values)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def comparable(objects) -> dict:
    """The objects by kind and name, without what may differ: labels of the tools, the image's tag, order of arguments."""
    found = {}
    for o in json.loads(json.dumps(list(objects))):
        metadata = o["metadata"]
        metadata.pop("labels", None)
        if o["kind"] == "DaemonSet":
            [only] = o["spec"]["template"]["spec"]["containers"]
            only["image"] = only["image"].split(":")[0]
            only.pop("imagePullPolicy", None)
            only["args"].sort()
        if o["kind"] == "PodMonitor":
            metadata.pop("annotations", None)
        found[o["kind"], metadata["name"]] = o
    return found


def test_it_passes_lint():
    run(program("helm"), "lint", "--strict", "--kube-version", VERSION, "--namespace", "kube-system", str(CHART))


def test_it_makes_what_kustomize_makes():
    assert set(VALUES) == set(manifests.ALL)
    for name, values in VALUES.items():
        ours, theirs = comparable(rendered(values)), comparable(manifests.rendered(name))
        assert ours.keys() == theirs.keys(), (name, ours.keys() ^ theirs.keys())
        for key in ours:
            assert ours[key] == theirs[key], f"{name} {key}\nhelm      {ours[key]}\nkustomize {theirs[key]}"


def test_with_everything_on_it_fits_the_schemas():
    everything = {
        "addresses": ["169.254.20.10", "fd00::10"],
        "clusterDns": {"holdAddress": True, "service": "coredns", "selector": {"k8s-app": "coredns"}},
        "clusterDomain": "corp.example",
        "interface": "cache",
        "firewall": "iptables",
        "surge": True,
        "name": "cache",
        "image": {"repository": "registry.example/sidestep", "tag": "1"},
        "imagePullSecrets": [{"name": "pull"}],
        "podAnnotations": {"a": "b"},
        "extraArgs": ["--cache-size=64MiB"],
        "podMonitor": {"enabled": True, "labels": {"release": "x"}},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    }
    objects = rendered(everything)
    manifests.hold_against_schemas(objects, "everything")
    daemonset = one(objects, "DaemonSet")
    arguments = " ".join(daemonset["spec"]["template"]["spec"]["containers"][0]["args"])
    assert "corp.example=svc://cache-upstream-pods.kube-system.svc.corp.example" in arguments
    assert "corp.example=tcp://$(CACHE_UPSTREAM_SERVICE_HOST)" in arguments
    assert "--node-address=$(COREDNS_SERVICE_HOST)" in arguments
    [file] = [o["data"]["sidestep.toml"] for o in objects if o["kind"] == "ConfigMap" and "sidestep.toml" in o["data"]]
    assert 'name = "corp.example"' in file and 'cluster_domain = "corp.example"' in file


def test_another_domain_is_accepted_by_this_program():
    objects = rendered({"clusterDomain": "corp.example"})
    text = json.dumps(objects).replace("$(SIDESTEP_UPSTREAM_SERVICE_HOST)", "10.96.0.11")
    said = manifests.accepted(json.loads(text))
    assert 'name = "corp.example."' in said and 'cluster_domain = "corp.example"' in said


def test_values_that_make_no_sense_are_refused():
    refused = {
        "a value that is none": {"adresses": []},
        "a word": {"firewall": "ipchains"},
        "no address": {"addresses": []},
        "a port": {"http": {"port": 0}},
        "no host network": {"cilium": True, "surge": True},
        "no nftables": {"firewall": "iptables", "notrackUpstream": True},
    }
    for what, values in refused.items():
        assert template(values).returncode != 0, what
    for values, namespace, word in [
        ({"replaceAddon": True}, "dns", "--namespace kube-system"),
        ({"replaceAddon": True, "cilium": True}, "kube-system", "delete the add-on"),
    ]:
        done = template(values, namespace)
        assert done.returncode != 0 and "replaceAddon: " in done.stderr and word in done.stderr, done.stderr
    elsewhere = template({"clusterDns": {"holdAddress": True}}, namespace="dns")
    assert elsewhere.returncode != 0 and "kube-system" in elsewhere.stderr, elsewhere.stderr


def test_its_copies_are_those_of_deploy():
    for copy, original in {
        "sidestep.toml": "kubernetes/base/sidestep.toml",
        "recording.yaml": "monitoring/recording.yaml",
        "alerts.yaml": "monitoring/alerts.yaml",
        "dashboard.json": "monitoring/dashboard.json",
    }.items():
        assert (CHART / "files" / copy).read_text() == (DEPLOY / original).read_text(), f"cp deploy/{original}"
