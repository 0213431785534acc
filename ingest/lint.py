"""What deserves a second look in a corpus that reads without a problem: form can be checked, sense only read."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter

from graph import Atlas, Prerequisite, Topic
from ingest.corpus import Corpus, Place
from ingest.problems import Problem

SUMMARY_WORDS = (40, 110)
FILLER = (
    "plays a crucial role",
    "plays a vital role",
    "powerful",
    "various",
    "in the field of",
    "it is important to note",
    "leverages",
    "state-of-the-art",
    "delve",
    "cutting-edge",
)
SHINGLE = 3
"""Words of one shingle."""

ALIKE = 0.5
"""Two summaries are near-duplicates when they share this part of the shorter one's shingles."""

COMMON = 40
"""A shingle that stands in more summaries than this is a turn of phrase and says nothing about two of them."""

STALEST = 10


def lint(corpus: Corpus) -> list[Problem]:
    """Return remarks on a corpus, by file and line. None of them stops a build."""
    parts = (_texts, _aliases, _alike, _reasons, _implied, _comparisons, _uncited, _stale, _unwritten)
    return sorted({remark for part in parts for remark in part(corpus)})


def _at(place: Place, what: str, instead: str = "") -> Problem:
    return Problem(place.file, place.line, what, instead)


def _texts(corpus: Corpus) -> Iterator[Problem]:
    for topic in corpus.atlas.topics:
        if topic.summary:
            place = corpus.entries[topic.id]
            texts = (topic.summary, topic.detail, topic.misconception)
            yield from (
                _at(place, *remark) for remark in (*_length(topic), *_filler(topic.title, texts), *_gaps(topic))
            )


def _length(topic: Topic) -> Iterator[tuple[str, str]]:
    count = len(topic.summary.split())
    least, most = SUMMARY_WORDS
    if not least <= count <= most:
        yield f'the summary of "{topic.title}" has {count} words', f"Between {least} and {most} is asked for."


def _filler(title: str, texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    text = " ".join(texts).casefold()
    for phrase in FILLER:
        if re.search(rf"\b{re.escape(phrase)}\b", text):
            yield f'"{phrase}" in "{title}"', "Say what is so, with a number or a name."


def _gaps(topic: Topic) -> Iterator[tuple[str, str]]:
    bare = {f"{opening} {topic.title}".casefold() for opening in ("what is", "what are", "what is a", "what is the")}
    if all(question.casefold().rstrip(" ?") in bare for question in topic.questions):
        yield f'"{topic.title}" has no question in other words than its title', "Add one as a learner would type it."
    if topic.depth <= 2 and not topic.detail:
        yield f'"{topic.title}" has no detail', "Topics down to the third level have a derivation, steps or an example."
    if topic.depth <= 2 and not topic.outcomes:
        yield f'"{topic.title}" has no outcomes', "Topics down to the third level say what a reader can do afterwards."
    for name, missing in (("level", topic.level is None), ("minutes", topic.minutes is None), ("refs", not topic.refs)):
        if missing:
            yield f'"{topic.title}" has no {name}', ""


def _aliases(corpus: Corpus) -> Iterator[Problem]:
    """An alias belongs to one topic or to one concept group."""
    group_of = {topic_id: group.canonical for group in corpus.atlas.concepts for topic_id in group.topics}
    holders: dict[str, list[Topic]] = defaultdict(list)
    for topic in corpus.atlas.topics:
        for alias in {alias.casefold(): alias for alias in topic.aliases}.values():
            if alias.casefold() == topic.title.casefold():
                yield _at(corpus.entries[topic.id], f'the alias "{alias}" is the title itself', "Remove it.")
            holders[alias.casefold()].append(topic)
    for alias, topics in holders.items():
        first, *others = topics
        for other in others:
            if group_of.get(first.id, first.id) != group_of.get(other.id, other.id):
                what = f'the alias "{alias}" of "{other.id}" belongs to "{first.id}" already'
                yield _at(corpus.entries[other.id], what, "Keep one, or join the two in concepts.yaml.")


def _alike(corpus: Corpus) -> Iterator[Problem]:
    """Summaries that share half of their three-word shingles; found through them, not by comparing all pairs."""
    written = [topic for topic in corpus.atlas.topics if topic.summary]
    shingles = [_shingles(topic.summary) for topic in written]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, found in enumerate(shingles):
        for shingle in found:
            holders[shingle].append(number)
    shared: Counter[tuple[int, int]] = Counter()
    for numbers in holders.values():
        if len(numbers) <= COMMON:
            shared.update((one, other) for at, other in enumerate(numbers) for one in numbers[:at])
    for (one, other), count in shared.items():
        if count >= ALIKE * min(len(shingles[one]), len(shingles[other])):
            what = f'the summaries of "{written[other].id}" and "{written[one].id}" are nearly the same'
            instead = "Say what is special to each, or join them in concepts.yaml."
            yield _at(corpus.entries[written[other].id], what, instead)


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))}


def _reasons(corpus: Corpus) -> Iterator[Problem]:
    """A reason that says no more than the titles, or that would fit other edges as well."""
    title_of = {topic.id: topic.title for topic in corpus.atlas.topics}
    given: dict[str, Prerequisite] = {}
    for edge in corpus.atlas.prerequisites:
        place = corpus.edges[edge.before, edge.after]
        if not _words(edge.why) - _words(f"{title_of[edge.before]} {title_of[edge.after]}"):
            yield _at(place, "the reason only repeats the titles", "Say what is needed for what.")
        first = given.setdefault(edge.why.casefold(), edge)
        if first is not edge and (first.group is None or first.group != edge.group):
            there = corpus.edges[first.before, first.after]
            what = f"the same reason stands at {there.file}:{there.line}"
            yield _at(place, what, "A reason that fits two pairs explains neither.")


_LITTLE = {
    *("the", "a", "an", "of", "is", "are", "in", "to", "for", "and", "on", "it", "this", "that", "first"),
    *("needs", "need", "uses", "requires", "builds"),
}


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold())) - _LITTLE


def _implied(corpus: Corpus) -> Iterator[Problem]:
    """Edges that other edges already imply: inherited from an ancestor, or met on the way to another prerequisite."""
    atlas = corpus.atlas
    ways = _Closure(atlas)
    for topic_id, edges in ways.own.items():
        for edge in edges:
            if edge.group is not None:
                continue  # one of several alternatives: nobody is bound to it
            via = ways.other_way(topic_id, edge)
            if via is None:
                continue
            place = corpus.edges[edge.before, edge.after]
            if via.before == edge.before:
                what = f'"{edge.before}" is needed already by the ancestor "{via.after}"'
            else:
                what = f'"{edge.before}" is implied already, through "{via.before}"'
            yield _at(place, what, "Keep it only if its reason is another one.")


class _Closure:
    """What each topic needs in the end, as bits over the topics' positions, along edges that bind."""

    def __init__(self, atlas: Atlas) -> None:
        self._parent = {topic.id: topic.parent for topic in atlas.topics}
        self._bit = {topic.id: 1 << topic.position for topic in atlas.topics}
        self.own: dict[str, list[Prerequisite]] = defaultdict(list)
        for edge in atlas.prerequisites:
            self.own[edge.after].append(edge)
        needs = {edge.before: [need.before for need in self.effective(edge.before)] for edge in atlas.prerequisites}
        self._needs: dict[str, int] = {}
        for topic_id in TopologicalSorter(needs).static_order():
            self._needs[topic_id] = self._in_the_end(topic_id)

    def effective(self, topic_id: str) -> list[Prerequisite]:
        """A topic's own edges and those of its ancestors."""
        edges: list[Prerequisite] = []
        holder: str | None = topic_id
        while holder is not None:
            edges += self.own.get(holder, ())
            holder = self._parent[holder]
        return edges

    def _in_the_end(self, topic_id: str) -> int:
        """Everything that the needed edges of a topic lead to; of an either-or only what all alternatives share."""
        needed = 0
        choices: dict[str, int] = {}
        for edge in self.effective(topic_id):
            if edge.strength == "needed":
                reached = self._bit[edge.before] | self._needs[edge.before]
                if edge.group is None:
                    needed |= reached
                else:
                    choices[edge.group] = choices.get(edge.group, reached) & reached
        for shared in choices.values():
            needed |= shared
        return needed

    def other_way(self, topic_id: str, edge: Prerequisite) -> Prerequisite | None:
        """The edge that brings what a topic's own `edge` asks for: an ancestor's to the same topic, or a longer way."""
        others = [other for other in self.effective(topic_id) if other.strength == "needed" and other.group is None]
        for other in others:
            if other.before == edge.before and other.after != edge.after:
                return other
        return next((other for other in others if self._needs[other.before] & self._bit[edge.before]), None)


def _comparisons(corpus: Corpus) -> Iterator[Problem]:
    for comparison in corpus.atlas.comparisons:
        values = [value for aspect in comparison.aspects for value in aspect.values]
        for remark in _filler(comparison.id, (comparison.same, comparison.choose, *values)):
            yield _at(corpus.comparisons[comparison.id], *remark)


def _uncited(corpus: Corpus) -> Iterator[Problem]:
    cited = {key for holder in (*corpus.atlas.topics, *corpus.atlas.comparisons) for key in holder.refs}
    for key, place in corpus.references.items():
        if key not in cited:
            yield _at(place, f'"{key}" is cited nowhere', "Cite it where it carries a statement, or remove it.")


def _stale(corpus: Corpus) -> Iterator[Problem]:
    dated = sorted((topic.as_of, topic.id) for topic in corpus.atlas.topics if topic.as_of)
    for as_of, topic_id in dated[:STALEST]:
        what = f'"{topic_id}" is as of {as_of}'
        yield _at(corpus.entries[topic_id], what, "Among the stalest: look whether it still holds.")


def _unwritten(corpus: Corpus) -> Iterator[Problem]:
    """How many topics of each section have no summary yet."""
    missing = Counter(topic.section for topic in corpus.atlas.topics if not topic.summary)
    total = Counter(topic.section for topic in corpus.atlas.topics)
    for section, count in missing.items():
        what = f'"{section}": {count:,} of {total[section]:,} topics have no summary yet'
        yield _at(corpus.titles[section], what)
