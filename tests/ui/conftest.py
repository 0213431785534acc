"""The app over the real service, without a browser: pages are run as scripts and their elements are read."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from service import Service, Settings, open_service
from service.build import build
from tests.conftest import ROOT

Open = Callable[..., AppTest]

SMALL_OUTLINE = """# Small

## Alpha
├── Mode Collapse
│   └── Signs
└── Latent Space

## Beta
└── Attention
"""
SMALL_TOPICS = """- id: alpha/mode-collapse
  demo: {run: planned-demo, look_at: The samples become alike.}
"""
SMALL_DEMOS = """- id: planned-demo
  title: A demo that is planned
  question: What will it show?
"""


@pytest.fixture(autouse=True)
def caches() -> Iterator[None]:
    """Each test opens the service of its own home."""
    yield
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture(scope="session")
def atlas(built_home: Path) -> Service:
    """What the pages draw, to compare with."""
    return open_service(Settings(home=built_home))


@pytest.fixture
def small_home(built_home: Path, tmp_path: Path) -> Path:
    """A home with an atlas of titles alone, one of them with a demo that is still to come."""
    home, corpus = tmp_path / "home", tmp_path / "corpus"
    home.mkdir()
    (home / "models").symlink_to(built_home / "models")
    (corpus / "topics" / "alpha").mkdir(parents=True)
    (corpus / "outline.txt").write_text(SMALL_OUTLINE, encoding="utf-8")
    (corpus / "demos.yaml").write_text(SMALL_DEMOS, encoding="utf-8")
    (corpus / "topics" / "alpha" / "mode-collapse.yaml").write_text(SMALL_TOPICS, encoding="utf-8")
    build(Settings(home=home, corpus=corpus))
    return home


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch, built_home: Path, tmp_path: Path) -> Open:
    """Open a page of the app at an address: `open_page("topic", id=…)`, over the shipped atlas unless told.

    The learner is nobody yet, and what is kept stays within the test.
    """
    monkeypatch.setenv("GENATLAS_PROGRESS_URL", f"sqlite:///{tmp_path}/progress.db")

    def visit(page: str = "explore", home: Path = built_home, **query: str) -> AppTest:
        monkeypatch.setenv("GENATLAS_HOME", str(home))
        at = AppTest.from_file(ROOT / "ui" / "app.py", default_timeout=60)
        at.switch_page(f"views/{page}.py")
        for name, value in query.items():
            at.query_params[name] = value
        return at.run()

    return visit


def words(at: AppTest) -> str:
    """Everything that a page says in text, one element a line, without the backslashes that keep signs as they are."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "warning", "error", "success")
    said = "\n".join(str(cast("Any", element).value) for kind in kinds for element in at.get(kind))
    return re.sub(r"\\([$~|\[\]_:*`<>#{}&\\])", r"\1", said)


def pictures(at: AppTest) -> list[dict[str, Any]]:
    """What the page's own components were given to draw."""
    return [json.loads(cast("Any", element).proto.json) for element in at.get("bidi_component")]


def links(at: AppTest) -> list[tuple[str, str, str]]:
    """The links to pages: label, page and query."""
    protos = [cast("Any", element).proto for element in at.get("page_link")]
    return [(proto.label, proto.page, proto.query_string) for proto in protos]


def button(at: AppTest, label: str) -> Any:
    """The one button of this label."""
    (found,) = [each for each in at.button if each.label == label]
    return found
