"""Rules and dashboard of deploy/monitoring: understood by Prometheus, and about metrics that the program serves."""

import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

import yaml

import manifests
from tools import DEPLOY, alone, one, program, run, sidestep

MONITORING = DEPLOY / "monitoring"
RULES = [MONITORING / "recording.yaml", MONITORING / "alerts.yaml"]
HERE = Path(__file__).parent
# Labels that Prometheus adds itself.
ADDED = {"instance", "job", "alertname"}


def rules() -> list[dict]:
    """Every rule."""
    return [rule for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict:
    """Grafana's."""
    return json.loads((MONITORING / "dashboard.json").read_text())


def panels() -> dict[str, list[str]]:
    """The expressions of each panel that has some, with its variables filled in as for "All"."""
    fill = {"$instance": ".*", "$zone": ".*", "$__rate_interval": "5s"}
    found = {}
    for panel in dashboard()["panels"]:
        expressions = [target["expr"] for target in panel.get("targets", [])]
        for variable, value in fill.items():
            expressions = [expression.replace(variable, value) for expression in expressions]
        assert not any("$" in expression for expression in expressions), panel["title"]
        if expressions:
            found[panel["title"]] = expressions
    return found


def selectors(expression: str) -> list[str]:
    """Every metric that an expression names, with its matchers."""
    text = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", " ", expression)
    found = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*\s*\{[^}]*\}|[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*[({a-zA-Z0-9_:])", re.sub(r"\[\w+\]", "", text))
    keywords = {"and", "or", "unless", "bool", "offset", "le", "inf"}
    return [s for s in found if s not in keywords]


def grouped(expression: str) -> set[str]:
    """Every label that an expression groups or joins by."""
    lists = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression)
    return {label.strip() for one_list in lists for label in one_list.split(",") if label.strip()}


def series(selector: str) -> str:
    """The path of Prometheus' API that lists what a selector finds."""
    return "/api/v1/series?" + urlencode({"match[]": selector})


def query(expression: str) -> str:
    """The path that works an expression out."""
    return "/api/v1/query?" + urlencode({"query": expression})


@functools.cache
def served() -> dict:
    """What Prometheus says after it has scraped a node's cache for some seconds."""
    expressions = [rule["expr"] for rule in rules()] + [e for panel in panels().values() for e in panel]
    paths = ["/api/v1/rules"] + [series(s) for e in expressions for s in selectors(e)] + [query(e) for e in expressions]
    with tempfile.TemporaryDirectory() as folder:
        for file in RULES:
            shutil.copy(file, folder)
        Path(folder, "prometheus.yml").write_text(yaml.safe_dump({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [file.name for file in RULES],
            "scrape_configs": [{"job_name": "sidestep", "static_configs": [{"targets": ["127.0.0.1:9353"]}]}],
        }))
        Path(folder, "sidestep.toml").write_text(one(manifests.rendered("base"), "ConfigMap")["data"]["sidestep.toml"])
        wanted = {"folder": folder, "prometheus": program("prometheus"), "program": [sidestep(), *node(folder)], "paths": sorted(set(paths))}
        done = subprocess.run(
            alone(sys.executable, str(HERE / "served.py")), input=json.dumps(wanted), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)


def node(folder: str) -> list[str]:
    """The arguments of the DaemonSet, where node, Service and pods of the cluster DNS are 127.0.0.1."""
    given = manifests.arguments(one(manifests.rendered("base"), "DaemonSet"))
    filled = [a.replace("/etc/sidestep", folder).replace("192.0.2.7", "127.0.0.1").replace("10.96.0.11", "127.0.0.1") for a in given]
    return [*filled, "--upstream=tcp://127.0.0.1"]


def said(path: str):
    """The data of one answer of Prometheus'."""
    answer = served()["answers"][path]
    assert answer["status"] == "success", f"{path}: {answer}"
    return answer["data"]


def hold_against_the_program(where: str, expression: str) -> None:
    """Whether each metric is served, has the values of labels that are asked for, and the labels grouped by."""
    labels = set(ADDED)
    assert selectors(expression), f"{where} names no metric"
    for selector in selectors(expression):
        found = said(series(selector))
        assert found, f"{where}: nothing that is served fits {selector}"
        labels |= {label for one_series in found for label in one_series}
    assert grouped(expression) <= labels, f"{where}: no series has {grouped(expression) - labels}"


def test_promtool_accepts_rules_and_their_cases():
    run(program("promtool"), "check", "rules", *map(str, RULES))
    run(program("promtool"), "test", "rules", str(HERE / "rules_test.yaml"))


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not():
    cases = yaml.safe_load((HERE / "rules_test.yaml").read_text())["tests"]
    cases = [case for test in cases for case in test["promql_expr_test"]]
    tried = {(name, bool(case["exp_samples"])) for case in cases for name in re.findall(r'^ALERTS{alertname="(\w+)"}$', case["expr"])}
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert tried == {(alert, fires) for alert in alerts for fires in (True, False)}


def test_prometheus_works_out_every_rule():
    groups = said("/api/v1/rules")["groups"]
    found = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert len(found) == len(rules())
    unwell = {name: rule.get("lastError") for name, rule in found.items() if rule["health"] != "ok"}
    assert not unwell, unwell


def test_rules_are_about_what_the_program_serves():
    for rule in rules():
        hold_against_the_program(rule.get("alert") or rule["record"], rule["expr"])
        if "record" in rule:
            assert said(query(rule["expr"]))["result"], f"{rule['record']} has no value"


def test_panels_show_what_the_program_serves():
    assert len(panels()) > 20
    for title, expressions in panels().items():
        for expression in expressions:
            hold_against_the_program(title, expression)
            assert said(query(expression))["result"], f"{title} is empty: {expression}"


def test_the_dashboard_is_one_that_grafana_can_take():
    board = dashboard()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) and board["uid"] and board["schemaVersion"] >= 36
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]}
    assert len(places) == len(ids), "two panels in one place"
    for panel in board["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["type"] == "row" or panel["description"], panel["title"]


def test_promtool_accepts_the_metrics():
    run(program("promtool"), "check", "metrics", input=served()["metrics"])
