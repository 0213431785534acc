"""A page of the static site as a browser would take it apart; raises where tags are not closed in turn."""

from html.parser import HTMLParser
from posixpath import join, normpath
from urllib.parse import unquote, urlsplit

VOID = {"meta", "br", "hr", "img", "link", "input", "wbr"}
ADDRESSES = ("href", "src", "action", "poster", "srcset", "data")


class SitePage(HTMLParser):
    """The tags, addresses, ids and texts of the page at `path` below the site's folder."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__()
        self.path = path
        self.tags: list[str] = []
        self.attributes: dict[str, dict[str, str]] = {}
        self.links: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.title = ""
        self.scripts: list[str] = []
        self.prose: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes.setdefault(tag, given)
        assert not [name for name in given if name.startswith("on") or name == "style"]
        self.links += [(tag, given[name]) for name in ADDRESSES if name in given]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, (self.path, tag)

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["title"]:
            self.title += data
        elif self._open[-1:] == ["script"]:
            self.scripts[-1] += data
        elif "code" not in self._open:
            self.prose.append(data)

    def target(self, address: str) -> tuple[str, str]:
        """The path below the site's folder, and the fragment, that an address of this page leads to."""
        parts = urlsplit(address)
        path = normpath(join(self.path.rpartition("/")[0], unquote(parts.path))) if parts.path else self.path
        return path, unquote(parts.fragment)
