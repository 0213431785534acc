"""The atlas as linked data: JSON-LD in SKOS (the outline and its words) and schema.org (learning and sources).

The context stands in the document, so that nobody has to fetch one. What the two vocabularies have no word for (the
formula, comparison tables) is left to the other formats.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from graph.model import Atlas, Comparison, Demo, Prerequisite, Reference, Topic
from graph.networkx_store import NetworkXStore
from graph.store import GraphStore

Address = Callable[[str, str], str]
"""The IRI of what has this id and is of this kind: "topics", "comparisons", "demos", or "" for the atlas itself."""

_LINK = {"@type": "@id"}
CONTEXT: Mapping[str, Any] = {
    "@vocab": "https://schema.org/",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "schema": "https://schema.org/",
    **{name: {"@id": f"skos:{name}", "@language": "en"} for name in ("prefLabel", "altLabel", "definition")},
    **{
        name: {"@id": f"skos:{name}", **_LINK}
        for name in ("inScheme", "topConceptOf", "hasTopConcept", "broader", "narrower", "related", "exactMatch")
    },
    **{
        name: {"@id": f"schema:{name}", **_LINK}
        for name in ("about", "subjectOf", "competencyRequired", "citation", "targetUrl", "url")
    },
}
"""The terms of the document: SKOS by its own names, everything else schema.org's."""


def to_jsonld(atlas: Atlas, base_url: str | None = None) -> bytes:
    """Return the atlas as one indented JSON-LD document.

    Things are named by URNs, or by the pages of the static site where it is published at `base_url`.
    """
    data = LinkedData(NetworkXStore(atlas), urn_of if base_url is None else page_under(base_url))
    graph = [
        data.scheme(atlas.title),
        *(data.topic(topic) | _text(topic) for topic in atlas.topics),
        *map(data.comparison, atlas.comparisons),
        *map(data.demo, atlas.demos),
        *map(data.reference, atlas.references),
    ]
    return msgspec.json.format(msgspec.json.encode({"@context": CONTEXT, "@graph": graph}), indent=1) + b"\n"


def urn_of(kind: str, name: str) -> str:
    """The name of a thing that has no address: urn:genatlas:topics/gan/loss."""
    return f"urn:genatlas:{kind or 'atlas'}{'/' if name else ''}{quote(name)}"


def page_under(base_url: str) -> Address:
    """Addresses of the static site's pages where it is published."""
    base = base_url.rstrip("/")
    return lambda kind, name: f"{base}/{kind}/{quote(name)}.html" if kind else f"{base}/"


class LinkedData:
    """The nodes of one atlas's JSON-LD, things named by their addresses."""

    def __init__(self, store: GraphStore, address: Address) -> None:
        self._store = store
        self._address = address
        self._works = {work.key: work for work in store.references()}

    def scheme(self, title: str) -> dict[str, Any]:
        """The atlas as a SKOS concept scheme."""
        return {
            "@id": self._address("", ""),
            "@type": "skos:ConceptScheme",
            "prefLabel": title,
            "name": title,
            "hasTopConcept": self._topics(topic.id for topic in self._store.topics() if topic.parent is None),
        }

    def topic(self, topic: Topic) -> dict[str, Any]:
        """A topic as a SKOS concept and a learning resource.

        `competencyRequired` has all that is needed, also by what the topic is a part of; `educationalAlignment` has
        the reasons of the topic's own prerequisites.
        """
        store, scheme = self._store, self._address("", "")
        effective = store.effective_prerequisites(topic.id)
        needed = [edge.before for edge in effective if edge.strength == "needed" and edge.group is None]
        return _filled(
            {
                "@id": self._address("topics", topic.id),
                "@type": ["skos:Concept", "LearningResource"],
                "prefLabel": topic.title,
                "altLabel": [alias for alias in dict.fromkeys(topic.aliases) if alias != topic.title],
                "definition": topic.summary,
                "name": topic.title,
                "description": topic.summary,
                "position": topic.position,
                "inScheme": scheme,
                "topConceptOf": scheme if topic.parent is None else "",
                "broader": self._topics([topic.parent] if topic.parent else []),
                "narrower": self._topics(child.id for child in store.children(topic.id)),
                "related": self._topics(self._related(topic)),
                "exactMatch": self._topics(twin.id for twin in store.twins(topic.id)),
                "educationalLevel": topic.level,
                "timeRequired": topic.minutes and f"PT{topic.minutes}M",
                "teaches": list(topic.outcomes) or [topic.title],
                "competencyRequired": self._topics(dict.fromkeys(needed)),
                "educationalAlignment": [self._alignment(edge) for edge in store.prerequisites(topic.id)],
                "subjectOf": topic.demo and self._address("demos", topic.demo.demo),
                "citation": self._citations(topic.refs),
                "inLanguage": "en",
            }
        )

    def comparison(self, comparison: Comparison) -> dict[str, Any]:
        """A comparison as a learning resource about its sides."""
        return _filled(
            {
                "@id": self._address("comparisons", comparison.id),
                "@type": "LearningResource",
                "name": comparison.question,
                "description": f"{comparison.same} {comparison.choose}".strip(),
                "about": self._topics(comparison.between),
                "citation": self._citations(comparison.refs),
                "inLanguage": "en",
            }
        )

    def demo(self, demo: Demo) -> dict[str, Any]:
        """A demo as source code about the topics that it shows."""
        return _filled(
            {
                "@id": self._address("demos", demo.id),
                "@type": "SoftwareSourceCode",
                "name": demo.title,
                "description": demo.question,
                "programmingLanguage": "Python",
                "about": self._topics(topic.id for topic in self._store.demonstrated_by(demo.id)),
            }
        )

    def reference(self, work: Reference) -> dict[str, Any]:
        """A work that the atlas cites, named by where it is found."""
        return _filled(
            {
                "@id": link_iri(work),
                "@type": "ScholarlyArticle",
                "name": work.title,
                "author": [{"@type": "Person", "name": name} for name in work.authors if name != "others"],
                "datePublished": work.year and str(work.year),
                "isPartOf": work.venue and {"@type": "CreativeWork", "name": work.venue},
                "identifier": f"arXiv:{work.arxiv}" if work.arxiv else work.doi and f"doi:{work.doi}",
                "url": link_iri(work),
            }
        )

    def _topics(self, ids: Iterable[str]) -> list[str]:
        return [self._address("topics", topic_id) for topic_id in ids]

    def _citations(self, keys: Sequence[str]) -> list[str]:
        return [link_iri(self._works[key]) for key in keys if key in self._works]

    def _alignment(self, edge: Prerequisite) -> dict[str, Any]:
        """A prerequisite with its reason, in schema.org's words for what a resource asks of a learner."""
        kind = "is helped by" if edge.strength == "helpful" else "requires" if edge.group is None else "requires one of"
        return {
            "@type": "AlignmentObject",
            "alignmentType": kind,
            "targetUrl": self._address("topics", edge.before),
            "targetName": self._store.topic(edge.before).title,
            "description": edge.why,
        }

    def _related(self, topic: Topic) -> Iterator[str]:
        """The topics that it is compared with; SKOS forbids those above and below it, and twins are exact matches."""
        twins = {twin.id for twin in self._store.twins(topic.id)}
        sides = (side for comparison in self._store.comparisons(topic.id) for side in comparison.between)
        for other in dict.fromkeys(sides):
            on_one_line = f"{other}/".startswith(f"{topic.id}/") or f"{topic.id}/".startswith(f"{other}/")
            if other not in twins and not on_one_line:
                yield other


def link_iri(work: Reference) -> str:
    """Where a work is found, without the signs that an IRI may not have; its key as a URN where no place is known."""
    return quote(work.link, safe=":/?#@!$&'()*+,;=%~") or urn_of("references", work.key)


def _text(topic: Topic) -> dict[str, Any]:
    """A topic's long text, in Markdown, where there is one."""
    return {"text": topic.detail, "encodingFormat": "text/markdown"} if topic.detail else {}


def _filled(node: dict[str, Any]) -> dict[str, Any]:
    """The fields that say something."""
    return {name: value for name, value in node.items() if value not in ("", [], None)}
