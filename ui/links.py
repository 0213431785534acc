"""Addresses of the app's pages, and what an address says: pure functions, so that a wrong address never raises."""

from collections.abc import Mapping
from urllib.parse import quote

PAGES = {"explore": "", "topic": "topic", "ask": "ask", "path": "path", "place": "place", "demo": "demo"}
_PARAMETER = {"explore": "topic", "topic": "id", "ask": "q", "path": "goal", "place": "topic", "demo": "topic"}


def address(page: str, value: str) -> str:
    """The address of a page about something, from the app's root: slashes in an id travel as %2F."""
    return f"/{PAGES[page]}?{_PARAMETER[page]}={quote(value, safe='')}"


def query(page: str, value: str) -> dict[str, str]:
    """The query of the same address, for `st.page_link`."""
    return {_PARAMETER[page]: value}


def asked_for(page: str, params: Mapping[str, str]) -> str | None:
    """What the address of a page names, or None when it names nothing."""
    return params.get(_PARAMETER[page], "").strip() or None


def demo_params(params: Mapping[str, str]) -> dict[str, str]:
    """The demo parameters that an address carries beside the topic."""
    return {name: value for name, value in params.items() if name not in ("topic", "demo")}
