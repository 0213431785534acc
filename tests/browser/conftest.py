"""The app as a process of its own and a real Chromium in front of it, both on 127.0.0.1 and nowhere else."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import ROOT

PICTURES = ROOT / "test-output"
SIZE = {"width": 1440, "height": 900}
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
expect.set_options(timeout=20_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One server and one browser serve every test of this folder, so one worker takes them all."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture(scope="session")
def app_url(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the running app, over the shipped atlas."""
    folder = tmp_path_factory.mktemp("ui")
    settings = {"GENATLAS_HOME": str(built_home), "GENATLAS_PROGRESS_URL": f"sqlite:///{folder}/progress.db"}
    with serving([sys.executable, "-m", "ui"], settings, folder / "server.log") as url:
        yield url


@contextmanager
def serving(command: list[str], environment: dict[str, str], log: Path) -> Generator[str]:
    """A Streamlit server for as long as the block runs; its address comes back when it answers."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GENATLAS_", "STREAMLIT_"))}
    options = ["--server.port", str(port), "--server.address", "127.0.0.1"]
    with log.open("wb") as out:
        server = subprocess.Popen([*command, *options], cwd=ROOT, env=clean | environment, stdout=out, stderr=out)
    try:
        _wait_until_healthy(server, f"{url}/_stcore/health", log)
        yield url
    finally:
        server.terminate()
        server.wait(20)


def _wait_until_healthy(server: subprocess.Popen[bytes], health: str, log: Path) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            with urlopen(health, timeout=1) as answer:  # noqa: S310 (our own server)
                if answer.status == 200:
                    return
        except (URLError, TimeoutError, ConnectionError):
            try:
                server.wait(0.05)
            except subprocess.TimeoutExpired:
                continue  # still starting
            break
    pytest.fail(f"The app did not come up:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.fail(
            "The browser tests need a Chromium: make browser (or apt-get install chromium, or CHROMIUM=/its/path)."
        )
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


class Visitor:
    """A person with a fresh browser profile. Every fault that the browser saw is kept and asked about at the end."""

    def __init__(self, browser: Browser, url: str, theme: str = "light") -> None:
        self.url = url
        self.context = browser.new_context(
            viewport=SIZE,  # pyright: ignore[reportArgumentType] (a plain dict is what it takes)
            color_scheme="dark" if theme == "dark" else "light",
            accept_downloads=True,
        )
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(f"error in the page: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def _asked(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname != "127.0.0.1":
            self.faults.append(f"request to another host: {address}")

    def open(self, address: str) -> Page:
        """Open an address of the app in this tab, and wait until the page stands still."""
        self.page.goto(self.url + address)
        return self.settled()

    def settled(self) -> Page:
        """Wait until the script has run and nothing is marked as stale or loading."""
        expect(self.page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_attached()
        expect(self.page.locator('[data-testid="stSkeleton"]')).to_have_count(0)
        return self.page

    def assert_no_fault(self) -> None:
        """Fail on anything wrong that was seen so far."""
        assert self.faults == []
        expect(self.page.locator('[data-testid="stException"]')).to_have_count(0)


@pytest.fixture
def visitor(browser: Browser, app_url: str) -> Iterator[Visitor]:
    """A visitor whose visit must end without a fault."""
    someone = Visitor(browser, app_url)
    yield someone
    someone.assert_no_fault()
    someone.context.close()
