"""The pages that people read, from the templates."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from graph import Comparison, Topic
from service import DemoInfo, wire
from ui.website import text
from ui.website.contents import Contents, command
from ui.website.machines import Graph, Href

if TYPE_CHECKING:
    from demos import Parameter

TEMPLATES = Path(__file__).with_name("templates")
DESCRIPTION = 200
"""Characters of a page's description."""


def page_path(kind: str, name: str) -> str:
    """The path of a page: topics/gan/loss.html, or demos.html for one at the root."""
    return f"{kind}/{name}.html" if kind else f"{name}.html"


def href_from(root: str) -> Href:
    """Addresses of pages for one from which `root` ("../../") leads back to the site's folder."""
    return lambda kind, name: f"{root}{quote(page_path(kind, name))}"


class Pages:
    """The pages of one site. `base_url` is where it is published, if that is known."""

    def __init__(self, contents: Contents, base_url: str | None) -> None:
        self._contents = contents
        self._base_url = base_url
        self._graphs: dict[str, Graph] = {}

    def topic(self, topic: Topic) -> str:
        """A topic's page; that of a section also has the outline below it."""
        before, after = self._contents.beside(topic)
        return self._page(
            "topic.html",
            page_path("topics", topic.id),
            title=topic.title,
            description=topic.summary,
            linked_data=lambda graph: graph.topic(topic),
            topic=topic,
            demo=self._contents.demos.get(topic.demo.demo) if topic.demo else None,
            before=before,
            after=after,
        )

    def comparison(self, comparison: Comparison) -> str:
        """A comparison's page, with its table."""
        return self._page(
            "comparison.html",
            page_path("comparisons", comparison.id),
            title=comparison.question,
            description=comparison.same,
            linked_data=lambda graph: graph.comparison(comparison),
            comparison=comparison,
        )

    def demo(self, info: DemoInfo) -> str:
        """A demo's page, with its code."""
        return self._page(
            "demo.html",
            page_path("demos", info.demo.id),
            title=info.demo.title,
            description=info.demo.question,
            linked_data=lambda graph: graph.demo(info.demo),
            info=info,
            described=self._contents.descriptions.get(info.demo.id),
        )

    def at_root(self, name: str, title: str, description: str = "") -> str:
        """The start page, the lists and the search: what has a template of its own and no topic."""
        return self._page(
            f"{name}.html", f"{name}.html", title, description, linked_data=lambda graph: graph.atlas(), current=name
        )

    def _page(
        self,
        template: str,
        path: str,
        title: str,
        description: str,
        linked_data: Callable[[Graph], str],
        current: str = "",
        **more: object,
    ) -> str:
        root = "../" * path.count("/")
        if root not in self._graphs:
            self._graphs[root] = Graph(self._contents, href_from(root))
        return (
            _templates()
            .get_template(template)
            .render(
                contents=self._contents,
                command=command,
                current=current,
                title=title,
                description=_shortened(text.plain(description)),
                root=root,
                link=href_from(root),
                canonical=f"{self._base_url}/{quote(path)}" if self._base_url else None,
                linked_data=Markup(linked_data(self._graphs[root])),  # noqa: S704 (written so that it ends no script)
                **more,
            )
        )


@cache
def _templates() -> Environment:
    """The templates, each compiled once."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "markdown": text.markdown,
        "prose": text.prose,
        "formula": text.formula,
        "code": text.code,
        "cite": wire.cite,
        "first_sentence": text.first_sentence,
        "web_address": web_address,
        "number": number,
        "span": span,
    }
    return environment


def web_address(link: str) -> str:
    """The address of a work, where it is one that a page may lead to."""
    return link if link.startswith(("https://", "http://")) else ""


def span(parameter: "Parameter") -> str:
    """What a demo's parameter may be."""
    if parameter.choices:
        return " | ".join(parameter.choices)
    if parameter.minimum is None or parameter.maximum is None:
        return parameter.kind
    return f"{number(parameter.minimum)} to {number(parameter.maximum)}"


def number(value: float) -> str:
    """A bound as people write it: 0.05, 2,147,483,647."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:g}"


def _shortened(description: str) -> str:
    if len(description) <= DESCRIPTION:
        return description
    return description[:DESCRIPTION].rsplit(" ", 1)[0] + " …"
