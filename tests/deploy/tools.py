"""What the checks share: where things are, and programs that must be there."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SIDESTEP = TARGET / "debug" / "sidestep"

HOW_TO_INSTALL = {
    "kustomize": "go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1",
    "helm": "go install helm.sh/helm/v3/cmd/helm@v3.19.0",
    "promtool": "apt-get install prometheus",
    "prometheus": "apt-get install prometheus",
    "systemd-analyze": "apt-get install systemd",
    "unshare": "apt-get install util-linux",
    "setpriv": "apt-get install util-linux",
    "ip": "apt-get install iproute2",
}

try:
    import kubernetes_validate  # noqa: F401
    import yaml
    from jsonschema import Draft202012Validator
except ImportError as error:
    raise SystemExit(f"{error}: pip install kubernetes-validate==1.37.0") from error


def program(name: str) -> str:
    """Where a program is."""
    path = shutil.which(name)
    assert path, f"{name} is missing: {HOW_TO_INSTALL[name]}"
    return path


def sidestep() -> str:
    """This project's program."""
    assert SIDESTEP.exists(), f"{SIDESTEP} is missing: cargo build"
    return str(SIDESTEP)


def run(*command: str, **options) -> str:
    """What a command prints; that it fails is a failure."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def documents(text: str) -> list[dict]:
    """The objects of a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]


def one(objects: list[dict], kind: str) -> dict:
    """The only object of a kind."""
    found = [o for o in objects if o["kind"] == kind]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def hold_against(schema: dict, value, what: str) -> None:
    """Whether a value is what a JSON schema says."""
    wrong = [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in Draft202012Validator(schema).iter_errors(value)]
    assert not wrong, f"{what}: {wrong}"


def alone(*command: str) -> list[str]:
    """A command line that runs in a network of its own, where there is nothing but loopback."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    start = 'ip link set lo up && exec "$@"'
    return [program("unshare"), *user, "--net", "--", "sh", "-ec", start, "sh", *command]
