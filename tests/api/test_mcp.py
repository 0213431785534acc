"""The atlas over MCP, asked by the official client over standard input and over HTTP."""

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent, TextResourceContents
from tokenizers import Tokenizer

from service import Service, Settings, open_service
from tests.api.conftest import Running, in_a_loop_of_its_own
from tests.conftest import ROOT

pytestmark = pytest.mark.xdist_group("http")

ELBO = "variational-autoencoders/training-objectives/elbo"
TOOLS = {"search", "ask", "topic", "prerequisites", "compare", "path", "run_demo"}
CALLS: dict[str, dict[str, Any]] = {
    "search": {"query": "why do we scale by sqrt dk"},
    "ask": {"question": "why do we scale by sqrt dk"},
    "topic": {"topic": "training-objectives/elbo"},
    "prerequisites": {"topic": ELBO, "closure": True},
    "compare": {"one": "bert", "other": "gpt-family"},
    "path": {"goals": [ELBO], "minutes": 30},
    "run_demo": {"demo": "gaussian-kl", "params": {"samples": 1000}},
}


@asynccontextmanager
async def over_http(service: Running, token: str | None = None) -> AsyncGenerator[Client]:
    """A client of the service's own address."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{service.address}/mcp", http_client=http)) as client,
    ):
        yield client


def text_of(result: Any) -> str:
    """The text of a tool's answer."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


@pytest.fixture(scope="module")
def atlas(built_home: Path) -> Service:
    return open_service(Settings(home=built_home))


@pytest.fixture(scope="module")
def tokenizer(built_home: Path) -> Tokenizer:
    file = next((built_home / "models").rglob("tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def test_over_standard_input_every_tool_is_listed_and_answers(built_home: Path, tokenizer: Tokenizer) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GENATLAS_")}
    process = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ui.cli", "mcp"],
        env=clean | {"GENATLAS_HOME": str(built_home), "PYTHONPATH": str(ROOT)},
    )

    async def asked() -> dict[str, str]:
        async with Client(process) as client:
            listed = await client.list_tools()
            assert {tool.name for tool in listed.tools} == TOOLS == CALLS.keys()
            assert all(tool.description and tool.input_schema["properties"] for tool in listed.tools)
            assert client.instructions
            assert "prerequisites" in client.instructions
            return {name: text_of(await client.call_tool(name, given)) for name, given in CALLS.items()}

    told = in_a_loop_of_its_own(asked)
    assert "scaling-by-sqrt-dk" in told["search"]
    assert "variance" in told["ask"]
    assert "arxiv.org" in told["ask"]
    assert told["topic"].startswith("# ELBO")
    assert "foundations/" in told["prerequisites"]
    assert "| BERT" in told["compare"]
    assert "Study path to ELBO" in told["path"]
    assert "holds:" in told["run_demo"]
    assert "NOT REACHED" not in told["run_demo"]
    assert {name: len(tokenizer.encode(text).ids) for name, text in told.items() if long(tokenizer, text)} == {}


def long(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text has more tokens than an answer may have."""
    return len(tokenizer.encode(text).ids) > 2000


def test_what_is_longer_than_a_page_goes_on_at_its_cursor(service: Running, atlas: Service) -> None:
    async def read() -> list[str]:
        pages: list[str] = []
        given: dict[str, Any] = {"topic": "multi-head-latent-attention", "closure": True}
        async with over_http(service) as client:
            while True:
                pages.append(text_of(await client.call_tool("prerequisites", given)))
                if "cursor=" not in pages[-1]:
                    break
                given["cursor"] = pages[-1].rsplit("cursor=", 1)[1].rstrip(")")
            stale = await client.call_tool("prerequisites", given | {"cursor": "100@00000000"})
            assert stale.is_error
            assert "no cursor" in text_of(stale)
        return pages

    pages = in_a_loop_of_its_own(read)
    assert len(pages) > 1
    found = atlas.find_topic("multi-head-latent-attention").topic
    from graph import transitive_prerequisites

    whole = "\n".join(pages)
    assert [edge.before for edge in transitive_prerequisites(atlas.store, found.id) if edge.before not in whole] == []


@pytest.mark.parametrize(
    ("tool", "given", "says"),
    [
        ("topic", {"topic": "variational-autoencoders/elbow"}, "variational-autoencoders"),
        ("search", {"query": ""}, "at least 1 character"),
        ("path", {"goals": []}, "at least 1 item"),
        ("run_demo", {"demo": "gausian-kl"}, "key with the scope run-demos"),
        ("compare", {"one": "bert"}, "other"),
        ("nothing", {}, "nothing"),
    ],
)
def test_an_invalid_call_gets_an_error_that_says_what_is_wrong(
    service: Running, tool: str, given: dict[str, Any], says: str
) -> None:
    async def call() -> str:
        async with over_http(service) as client:
            try:
                result = await client.call_tool(tool, given)
            except MCPError as error:
                return str(error)
            assert result.is_error
            return text_of(result)

    assert says.lower() in in_a_loop_of_its_own(call).lower()


def test_over_http_demos_are_run_by_who_may_and_progress_is_told(service: Running) -> None:
    seen: list[float] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
        seen.append(progress)

    async def run(token: str, **given: Any) -> tuple[bool, str]:
        async with over_http(service, token) as client:
            result = await client.call_tool("run_demo", given, progress_callback=heard)
            return bool(result.is_error), text_of(result)

    async def runs() -> list[tuple[bool, str]]:
        reader, runner = service.key("read")[1], service.key("run-demos")[1]
        return [
            await run(reader, demo="gaussian-kl"),
            await run(runner, demo="gaussian-kl", params={"seed": 3, "samples": 20000}),
            await run(runner, demo="gaussian-kl", params={"sed": 3}),
            await run(runner, demo="gaussian-kl", preset="nothing"),
        ]

    refused, done, misspelt, no_preset = in_a_loop_of_its_own(runs)
    assert (refused[0], "has not the scope run-demos" in refused[1]) == (True, True)
    assert (done[0], "## Claims, checked in this run" in done[1]) == (False, True)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert (misspelt[0], 'did you mean "seed"' in misspelt[1]) == (True, True)
    assert (no_preset[0], "is no preset" in no_preset[1]) == (True, True)


def test_topics_are_resources_and_prompts_hold_their_topic(service: Running, atlas: Service) -> None:
    async def read() -> None:
        async with over_http(service) as client:
            (sections,) = (await client.read_resource("genatlas://sections")).contents
            assert isinstance(sections, TextResourceContents)
            assert sections.text.count("\n# ") + 1 == len([t for t in atlas.store.topics() if t.depth == 0])
            (topic,) = (await client.read_resource(f"genatlas://topic/{ELBO}")).contents
            assert isinstance(topic, TextResourceContents)
            assert atlas.store.topic(ELBO).summary in topic.text
            with pytest.raises(MCPError, match="elbow"):
                await client.read_resource("genatlas://topic/elbow")
            templates = (await client.list_resource_templates()).resource_templates
            assert [template.uri_template for template in templates] == ["genatlas://topic/{+topic}"]
            assert {prompt.name for prompt in (await client.list_prompts()).prompts} == {"teach", "quiz", "plan"}
            taught = await client.get_prompt("teach", {"topic": "elbo", "knows": "the KL divergence"})
            content = taught.messages[0].content
            assert isinstance(content, TextContent)
            assert "the KL divergence" in content.text
            assert atlas.store.topic(ELBO).summary in content.text

    in_a_loop_of_its_own(read)


def test_a_revoked_key_is_refused_over_mcp_too(service: Running) -> None:
    key, token = service.key("read")
    service.revoke(key)
    called = httpx2.post(
        f"{service.address}/mcp",
        headers={"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"},
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    )
    assert called.status_code == 401


def test_importing_mcp_loads_no_torch() -> None:
    program = "import sys, api.mcp_server; assert not {'torch', 'streamlit', 'neo4j'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
