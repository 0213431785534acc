import yaml

from service.neo4j_server import VERSION
from tests.conftest import ROOT


def test_the_compose_file_runs_the_version_that_is_tested_and_names_no_password() -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    server = compose["services"]["neo4j"]
    assert server["image"] == f"neo4j:{VERSION}-community"
    assert server["environment"]["NEO4J_AUTH"].startswith("neo4j/${GENATLAS_NEO4J_PASSWORD:?")
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
