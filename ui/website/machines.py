"""The site for programs: JSON-LD in each page's head, a Markdown page beside it, llms.txt, a sitemap, search data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import msgspec

from graph import Comparison, Demo, Topic
from graph.jsonld import CONTEXT, LinkedData
from service import wire
from ui.website.contents import Contents, Need, command
from ui.website.text import first_sentence, plain
from ui.widgets.plain import plain as title_markdown
from ui.widgets.plain import prose as prose_markdown

Href = Callable[[str, str], str]
"""The address of a page, from the page that links to it: of its kind ("topics", "" for one at the root) and name."""


class Graph:
    """JSON-LD for the heads of pages that link by `href`; a reader resolves it against the page's own address."""

    def __init__(self, contents: Contents, href: Href) -> None:
        self._contents = contents
        self._href = href
        self._data = LinkedData(contents.store, lambda kind, name: href(kind, name or "index"))

    def topic(self, topic: Topic) -> str:
        """A topic, the works that it cites, and the way to it."""
        above = self._contents.store.ancestors(topic.id)
        steps = [
            {"@type": "ListItem", "position": place, "name": step.title, "item": {"@id": self._href("topics", step.id)}}
            for place, step in enumerate([*above, topic], start=1)
        ]
        way = {"@type": "BreadcrumbList", "itemListElement": steps}
        return self._script([self._data.topic(topic), way, *self._works(topic.refs)])

    def comparison(self, comparison: Comparison) -> str:
        """A comparison and the works that it cites."""
        return self._script([self._data.comparison(comparison), *self._works(comparison.refs)])

    def demo(self, demo: Demo) -> str:
        """A demo."""
        return self._script([self._data.demo(demo)])

    def atlas(self) -> str:
        """The whole, with its sections."""
        return self._script([self._data.scheme(self._contents.title)])

    def _works(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        return [self._data.reference(work) for work in self._contents.works(keys)]

    def _script(self, nodes: Sequence[Mapping[str, Any]]) -> str:
        """The text of a script element, which nothing in it can end."""
        text = msgspec.json.encode({"@context": CONTEXT, "@graph": nodes}).decode()
        return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def topic_markdown(contents: Contents, topic: Topic, href: Href) -> str:
    """A topic as one Markdown page with its links; that of a section has its whole outline."""
    store = contents.store

    def link(to: Topic) -> str:
        page = href("topics", to.id).removesuffix(".html")
        return f"[{title_markdown(to.title)}]({page}.md)"

    def need_line(need: Need) -> str:
        mark = " (helpful)" if need.edge.strength == "helpful" else ""
        return f"- {' or '.join(map(link, need.topics))}{mark}: {prose_markdown(need.edge.why)}"

    facts = [
        topic.level or "",
        f"about {topic.minutes} minutes" if topic.minutes else "",
        f"facts as of {topic.as_of}" if topic.as_of else "",
    ]
    below = store.children(topic.id) if topic.parent else store.subtree(topic.id)[1:]
    lists = {
        "Afterwards you can": [f"- {prose_markdown(outcome)}" for outcome in topic.outcomes],
        "Learn first": [need_line(need) for need in contents.needs(topic)],
        "Unlocks": [f"- {link(after)}: {prose_markdown(edge.why)}" for after, edge in contents.unlocks(topic)],
        "Contains": [f"{'  ' * (each.depth - topic.depth - 1)}- {link(each)}" for each in below],
        "The same concept elsewhere": [f"- {link(twin)}" for twin in store.twins(topic.id)],
        "Comparisons": [
            f"- [{title_markdown(each.question)}]({href('comparisons', each.id)})"
            for each in store.comparisons(topic.id)
        ],
        "Demo": [f"`{command(topic.demo.demo, topic.demo.params)}`: {prose_markdown(topic.demo.look_at)}"]
        if topic.demo
        else [],
        "References": [f"- [{title_markdown(wire.cite(work))}]({work.link})" for work in contents.works(topic.refs)],
    }
    parts = [
        f"# {title_markdown(topic.title)}",
        " › ".join(map(link, store.ancestors(topic.id))),
        ", ".join(filter(None, facts)),
        prose_markdown(topic.summary),
        f"$$\n{topic.formula}\n$$" if topic.formula else "",
        topic.detail,
        f"Often got wrong: {prose_markdown(topic.misconception)}" if topic.misconception else "",
        *(f"## {heading}\n\n" + "\n".join(lines) for heading, lines in lists.items() if lines),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def llms_txt(contents: Contents, address: Callable[[str], str]) -> str:
    """The page that llmstxt.org describes: what this is, and where to read on, in Markdown."""
    topics, demos = len(contents.atlas.topics), len(contents.demos)
    comparisons = len(contents.atlas.comparisons)
    sections = [
        f"- [{section.title}]({address(f'topics/{quote(section.id)}.md')}): {contents.sizes[section.id]} topics. "
        f"{plain(first_sentence(section.summary))}".rstrip()
        for section in contents.sections
    ]
    lists = [
        f"- [All topics]({address('outline.html')}): the whole outline, {topics:,} titles with links",
        f"- [Comparisons]({address('comparisons.html')}): {comparisons:,} questions of which one to take, with tables",
        f"- [Demos]({address('demos.html')}): {demos:,} programs in PyTorch, their claims and their code",
    ]
    return "\n".join(
        [
            f"# {contents.title}",
            "",
            f"> A knowledge graph of {topics:,} study topics: each has a summary, what to learn first with the reason, "
            "what it unlocks, comparisons, references and a demo.",
            "",
            "Every topic is a page topics/ID.html, and topics/ID.md beside it is the same as Markdown with formulas in "
            "LaTeX; the Markdown of a section lists all topics below it.",
            "",
            "## Sections",
            "",
            *sections,
            "",
            "## Lists",
            "",
            *lists,
            "",
        ]
    )


def sitemap(addresses: Iterable[str]) -> str:
    """The addresses as sitemaps.org asks for them."""
    lines = (f"<url><loc>{escape(address)}</loc></url>\n" for address in addresses)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    return f"{head}{''.join(lines)}</urlset>\n"


def search_data(contents: Contents) -> bytes:
    """What the search in the browser reads, as a script: a page opened from a disk may load no other kind of file.

    A row has id, title, aliases, questions and summary; what stands above a topic is told by its id.
    """
    rows = [
        (topic.id, topic.title, " | ".join(topic.aliases), " | ".join(topic.questions), plain(topic.summary))
        for topic in contents.atlas.topics
    ]
    return b"genatlasTopics = [\n" + b",\n".join(map(msgspec.json.encode, rows)) + b"\n];\n"
