"""Under load a new build is switched to and a demo's process dies, and nobody is told less than they asked for."""

import asyncio
import itertools
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from api.client import Client
from bench.load import ask
from service import Settings, open_service
from tests.api.conftest import in_a_loop_of_its_own, running
from tests.conftest import ROOT

pytestmark = pytest.mark.xdist_group("http")

CLIENTS = 32
CHANGED = "Long answers cost in the same way as long questions do."


def test_a_new_build_and_a_killed_demo_under_load_lose_nothing(built_home: Path, tmp_path: Path) -> None:
    home, corpus = tmp_path / "home", tmp_path / "corpus"
    shutil.copytree(built_home, home, symlinks=True)
    shutil.copytree(ROOT / "corpus", corpus)
    section = next((corpus / "topics").rglob("*.yaml"))
    changed = section.read_text().partition("- id: ")[2].partition("\n")[0]
    section.write_text(section.read_text().replace("summary: >", f"summary: >\n    {CHANGED}", 1))
    topics = open_service(Settings(home=home)).store.topics()
    paths = (f"/v1/search?q={quote(topic.title)}%20{n}" for n in itertools.count() for topic in topics)
    with running(home, tmp_path) as service, Client(service.address, service.key("run-demos")[1]) as client:
        before = client.health().build
        run = client.start_run("gaussian-kl", fresh=True)

        async def loaded() -> None:
            """Build beside the service, and kill the demo meanwhile; load goes on until both are through."""
            command = [sys.executable, "-m", "ui.cli", "build", "--corpus", str(corpus)]
            build = await asyncio.create_subprocess_exec(
                *command, cwd=ROOT, env={**os.environ, "GENATLAS_HOME": str(home)}, stderr=asyncio.subprocess.DEVNULL
            )
            while not (workers := service.workers(busy_s=1)):
                await asyncio.sleep(0.05)
            workers[0].kill()
            assert await build.wait() == 0
            while await asyncio.to_thread(lambda: client.health().build) == before:
                await asyncio.sleep(0.1)

        async def everything() -> None:
            work = asyncio.create_task(loaded())
            heard = await ask(service.address, paths, CLIENTS, lambda: not work.done())
            await work
            assert heard.broken == []
            assert set(heard.statuses) == {200}
            assert len(heard.seconds) > 10 * CLIENTS

        in_a_loop_of_its_own(everything)
        assert client.topic(changed).summary.startswith(CHANGED)
        while (seen := client.run(run.id)).state in ("queued", "running"):
            pass
        assert seen.state == "done"
