"""What an operator deploys, checked by each format's own validator and against what the service really tells."""

import itertools
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from api.metrics import Metrics
from service.neo4j_server import VERSION
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
SCRIPTS = Path(sys.executable).parent
LABEL = "$__rate_interval"


def loaded(file: str) -> Any:
    """A YAML file of the folder."""
    return yaml.safe_load((DEPLOY / file).read_text())


def dashboard() -> Any:
    """The dashboard of Grafana."""
    return json.loads((DEPLOY / "grafana" / "genatlas.json").read_text())


def queries() -> Iterator[str]:
    """Every query that Prometheus is to answer."""
    for group in loaded("alerts.yml")["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for panel in dashboard()["panels"]:
        yield from (target["expr"].replace(LABEL, "5m") for target in panel["targets"])


@pytest.mark.parametrize(
    "command",
    [
        ["hadolint", "Dockerfile"],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        ["kubernetes-validate", "--strict", "kubernetes/genatlas.yaml"],
    ],
    ids=lambda command: command[0],
)
def test_each_file_stands_its_formats_own_check(command: list[str]) -> None:
    done = subprocess.run([SCRIPTS / command[0], *command[1:]], cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_runs_the_neo4j_that_is_tested_and_names_no_password() -> None:
    services = loaded("compose.yaml")["services"]
    assert services["neo4j"]["image"] == f"neo4j:{VERSION}-community"
    assert services["neo4j"]["environment"]["NEO4J_AUTH"].startswith("neo4j/${GENATLAS_NEO4J_PASSWORD:?")
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_gets_every_folder_that_the_package_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    let_in = {
        line.removeprefix("!")
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert {*packages, "corpus", "locks", "Makefile", "pyproject.toml"} <= let_in
    assert all((ROOT / name).exists() for name in let_in)


def test_every_query_parses_and_asks_for_numbers_that_the_service_tells() -> None:
    metrics = Metrics()
    metrics.answered("GET", "/v1/search", 200, 0.01)
    metrics.looked(found=True)
    metrics.run_ended("done")
    told = metrics.text("build", 1, 0, 0).decode()
    names = set(re.findall(r"^(\w+)[ {]", told, flags=re.MULTILINE)) | {"up"}
    for query in queries():
        promql_parser.parse(query)
        asked = set(re.findall(r"\b(?:genatlas_\w+|process_\w+|up)\b", re.sub(r"\{[^}]*\}", "", query)))
        assert asked, query
        assert asked <= names, query


def test_the_dashboard_fits_together() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    (source,) = loaded("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    mounts = loaded("compose.yaml")["services"]["grafana"]["volumes"]
    (provider,) = loaded("grafana/provisioning/dashboards/genatlas.yaml")["providers"]
    assert any(mount.split(":")[1].startswith(provider["options"]["path"]) for mount in mounts)


def test_probes_and_prometheus_ask_where_the_service_answers() -> None:
    deployment = next(yaml.safe_load_all((DEPLOY / "kubernetes" / "genatlas.yaml").read_text()))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    (job,) = loaded("prometheus.yml")["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"service:{port['containerPort']}"]
    assert loaded("compose.yaml")["services"]["service"]["ports"] == [f"127.0.0.1:8000:{port['containerPort']}"]
