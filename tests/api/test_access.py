"""Who is let in: keys, scopes, addresses, limits."""

import json
import socket
from pathlib import Path

import httpx
import psutil
import pytest

from service.keys import SCOPES, KeyStore
from study.database import sqlite_url
from tests.api.conftest import Running, Start
from tests.conftest import run_genatlas

pytestmark = pytest.mark.xdist_group("http")

RUN = {"demo": "gaussian-kl", "params": {"samples": 1000}}


def other_addresses() -> list[str]:
    """Addresses of this machine that are not its loopback."""
    found = [each.address for of in psutil.net_if_addrs().values() for each in of if each.family == socket.AF_INET]
    return [address for address in found if not address.startswith("127.")]


def test_a_key_is_found_by_its_token_alone_until_it_is_revoked(database_url: str) -> None:
    keys = KeyStore(database_url)
    key, token = keys.create("ada", ("run-demos", "read"), profile="ada", per_minute=5)
    assert keys.find(token) == key
    assert key.scopes == ("read", "run-demos")
    assert keys.find(token[:-1] + ("A" if token[-1] != "A" else "B")) is None
    assert keys.find(f"ga_{'0' * 12}_{token[16:]}") is None
    assert keys.find("") is None
    keys.revoke(key.id)
    again = KeyStore(database_url)
    assert again.find(token) is None
    assert [each.revoked is None for each in again.all()] == [False]
    keys.close()
    again.close()


def test_a_key_is_kept_as_a_hash(tmp_path: Path) -> None:
    _, token = KeyStore(sqlite_url(tmp_path / "keys.db")).create("ada", ("read",))
    assert token.split("_", 2)[2].encode() not in (tmp_path / "keys.db").read_bytes()


def test_every_key_reads_and_admin_opens_everything(tmp_path: Path) -> None:
    keys = KeyStore(sqlite_url(tmp_path / "keys.db"))
    opens = {scope: [each for each in SCOPES if keys.create("k", (scope,))[0].may(each)] for scope in SCOPES}
    assert opens == {"read": ["read"], "run-demos": ["read", "run-demos"], "admin": list(SCOPES)}


def test_without_a_key_this_machine_reads_and_runs_nothing(client: httpx.Client) -> None:
    assert client.get("/v1/search", params={"q": "gan"}).status_code == 200
    refused = client.post("/v1/runs", json=RUN)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert "run-demos" in refused.json()["detail"]
    assert client.get("/v1/me").status_code == 401


def test_who_comes_by_way_of_a_proxy_needs_a_key_although_the_proxy_is_here(service: Running) -> None:
    _, token = service.key("read")
    from_afar = {"X-Forwarded-For": "203.0.113.7"}
    with service.client() as nobody, service.client(token) as known:
        refused = nobody.get("/v1/search", params={"q": "gan"}, headers=from_afar)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
        assert nobody.get("/metrics", headers=from_afar).status_code == 401
        assert nobody.get("/healthz", headers=from_afar).status_code == 200
        assert known.get("/v1/search", params={"q": "gan"}, headers=from_afar).status_code == 200
        assert known.get("/metrics", headers=from_afar).status_code == 403


@pytest.mark.parametrize(("public", "status"), [((), 401), (("--public",), 200)])
def test_at_another_address_a_key_is_needed_unless_the_service_is_public(
    start: Start, public: tuple[str, ...], status: int
) -> None:
    open_to_all = start("--address", "0.0.0.0", *public)  # noqa: S104
    port = open_to_all.address.rsplit(":", 1)[1]
    assert httpx.get(f"http://127.0.0.1:{port}/v1/stats").status_code == 200
    asked = [httpx.get(f"http://{address}:{port}/v1/stats").status_code for address in other_addresses()]
    by_proxy = httpx.get(f"http://127.0.0.1:{port}/v1/stats", headers={"X-Forwarded-For": "203.0.113.7"})
    assert {*asked, by_proxy.status_code} == {status}
    run = httpx.post(f"http://127.0.0.1:{port}/v1/runs", json=RUN, headers={"X-Forwarded-For": "203.0.113.7"})
    assert run.status_code == 401


def test_a_revoked_key_is_refused_at_once(service: Running) -> None:
    key, token = service.key("read")
    with service.client(token) as known:
        assert known.get("/v1/stats").status_code == 200
        service.revoke(key)
        assert known.get("/v1/stats").status_code == 401


@pytest.mark.parametrize(
    "header", ["Bearer nonsense", "Bearer ga_000000000000_" + "x" * 43, "Basic YTpi", "Bearer", ""]
)
def test_a_wrong_key_is_refused_even_where_none_is_needed(client: httpx.Client, header: str) -> None:
    refused = client.get("/v1/stats", headers={"Authorization": header})
    assert refused.status_code == 401
    assert "wrong, or it was revoked" in refused.json()["detail"]


def test_who_asks_too_often_is_told_when_to_come_again_and_others_are_unharmed(service: Running) -> None:
    hasty, patient = service.key("read", per_minute=3)[1], service.key("read", per_minute=3)[1]
    with service.client(hasty) as one, service.client(patient) as other:
        asked = [one.get("/v1/stats") for _ in range(5)]
        assert [each.status_code for each in asked] == [200, 200, 200, 429, 429]
        assert 1 <= int(asked[-1].headers["retry-after"]) <= 60
        assert other.get("/v1/stats").status_code == 200


def test_an_address_without_a_key_has_a_limit_too(start: Start) -> None:
    limited = start(GENATLAS_REQUESTS_PER_MINUTE="4")
    with limited.client() as nobody:
        assert [nobody.get("/v1/stats").status_code for _ in range(6)] == [200, 200, 200, 200, 429, 429]
        guessed = [nobody.get("/v1/stats", headers={"Authorization": "Bearer x"}).status_code for _ in range(6)]
        assert guessed == [401, 401, 401, 401, 429, 429]
        assert nobody.get("/healthz").status_code == 200


def test_a_key_opens_its_scopes_alone(service: Running) -> None:
    with service.client(service.key("read")[1]) as reader, service.client(service.key("run-demos")[1]) as runner:
        assert reader.post("/v1/runs", json=RUN).status_code == 403
        assert runner.get("/v1/stats").status_code == 200
        assert runner.post("/v1/runs", json=RUN).status_code == 202
        assert reader.get("/v1/me").status_code == 403


def test_keys_are_made_listed_and_revoked_on_the_command_line(tmp_path: Path, built_home: Path) -> None:
    settings = {"GENATLAS_PROGRESS_URL": sqlite_url(tmp_path / "k.db").render_as_string()}
    made = run_genatlas("key", "create", "Ada", "--scope", "run-demos", "--json", home=built_home, environment=settings)
    token = json.loads(made.stdout)["token"]
    listed = run_genatlas("key", "list", home=built_home, environment=settings)
    assert "Ada" in listed.stdout
    assert token not in listed.stdout
    key = KeyStore(sqlite_url(tmp_path / "k.db")).find(token)
    assert key is not None
    assert key.scopes == ("run-demos",)
    run_genatlas("key", "revoke", key.id, home=built_home, environment=settings)
    assert KeyStore(sqlite_url(tmp_path / "k.db")).find(token) is None
    unknown = run_genatlas("key", "revoke", "nobody", home=built_home, environment=settings)
    assert (unknown.returncode, "genatlas key list" in unknown.stderr) == (1, True)
    audit = (built_home / "audit.jsonl").read_text()
    assert f'"key": "{key.id}"' in audit
    assert token not in audit
    assert (built_home / "audit.jsonl").stat().st_mode & 0o077 == 0


def test_web_pages_of_named_sites_may_ask_and_others_may_not(start: Start) -> None:
    shared = start(GENATLAS_CORS_ORIGINS='["https://learn.example"]')
    with shared.client() as client:
        allowed = client.get("/v1/stats", headers={"Origin": "https://learn.example"})
        foreign = client.get("/v1/stats", headers={"Origin": "https://other.example"})
        asked_first = client.options(
            "/v1/paths",
            headers={
                "Origin": "https://learn.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type",
            },
        )
    assert allowed.headers["access-control-allow-origin"] == "https://learn.example"
    assert "access-control-allow-origin" not in foreign.headers
    assert asked_first.status_code == 200
