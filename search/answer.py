"""Answers made of the atlas's own sentences, each cited to its topic and references."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product, zip_longest
from operator import itemgetter

from graph import Comparison, DemoLink, GraphStore, Prerequisite, Topic, comparison_between
from search.comparison import AspectTable, authored_table, built_table
from search.follow_up import completed
from search.intent import Intent, intent_of, sides_of, subject_of
from search.passages import Passage, PassageField
from search.searcher import ENOUGH, Hit, Ranking, Searcher
from search.sentences import prose_of, sentences_of
from search.words import unglued, words_of, words_of_query

MOST_SENTENCES = 6
RELATED = 5
MOST_RANKED = 10

SAME_QUESTION = 0.7
"""Cosine from which a question asks for the comparison of another question."""

LIKE_QUESTION = 0.6
"""Cosine that a comparison must have when only further readings of the sides lead to it."""

SLACK = 0.1
"""Evidence that one side of a comparison may lack: the question as a whole is at home."""

TEXTS: tuple[PassageField, ...] = ("summary", "detail", "misconception")
"""Fields that hold sentences."""

NEARER = 0.05
"""How much nearer (cosine) a detail or a misconception must be than the summary to be told beside it."""

OF_SIDE = 3
"""Sentences of each side of a comparison that has no author, and topics that its words are looked up as."""

NAMED, OUTRIGHT, LONGEST_NAME = 0.93, 0.95, 5
"""Cosine from which words are nearly a topic's name; from which a part of longer words is one; its words at most."""

OF_SUMMARY, OF_PASSAGE = 4, 3
"""Sentences of the summary when a nearer passage follows it, and of that passage."""

_FORMULA = re.compile(
    r"formula|equation|\bmath|deriv|comput|calculat|symbol|closed form|\bloss\b|objective", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the atlas, with the topic that it stands in and the references of that topic."""

    text: str
    topic: str
    refs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the atlas says to a question.

    `topic` is the one that answers; `formula` is its LaTeX where it is the point. `note` says, in one sentence, what an
    answer lacks and where to go on. With `abstained` there are no sentences: the question is foreign to the atlas, or
    the text that would answer it is not written yet (`topic` then names whose), and `nearest` are topics to turn to.
    `ranked` are the topics that the search found, best first; of a comparison its two sides lead. `read_as` is the
    question as it was completed from what was asked before, "" where it stands alone.
    """

    question: str
    intent: Intent
    sentences: tuple[Sentence, ...] = ()
    topic: str | None = None
    formula: str = ""
    table: AspectTable | None = None
    demo: DemoLink | None = None
    related: tuple[str, ...] = ()
    abstained: bool = False
    nearest: tuple[str, ...] = ()
    note: str = ""
    ranked: tuple[str, ...] = ()
    meaning_off: bool = False
    read_as: str = ""

    @property
    def wording(self) -> str:
        """The question as it was understood."""
        return self.read_as or self.question

    @property
    def text(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def citations(self) -> tuple[str, ...]:
        """The topics that carry the answer, in the order of their first sentence."""
        sides = () if self.table is None else self.table.topics
        return tuple(dict.fromkeys([*(sentence.topic for sentence in self.sentences), *sides]))


@dataclass(frozen=True, slots=True)
class _Side:
    """Topics that one side of a comparison may mean, best first; `nearness` is the cosine of its words and a name."""

    topics: Sequence[Topic]
    nearness: float

    @property
    def is_sure(self) -> bool:
        """Whether the words are nearly a topic's name."""
        return self.nearness >= NAMED


class Answerer:
    """Answers questions from one atlas, through its search. Safe to share between threads."""

    def __init__(self, store: GraphStore, searcher: Searcher) -> None:
        self._store = store
        self._searcher = searcher

    def ask(self, question: str, after: str | None = None) -> Answer:
        """Return an answer of at most six sentences, or an abstention.

        `after` is the topic of the answer before: a question that leans on it ("and its loss?") is completed by its
        title. Raises EmptyQuery, QueryTooLong, or TopicNotFound for `after`.
        """
        asked = question
        if after is not None:
            question = completed(question, self._store.topic(after).title.partition(" (")[0])
        intent = intent_of(question)
        ranking = self._searcher.search(question)
        answer = Answer(
            asked,
            intent,
            read_as=question if question != asked else "",
            ranked=tuple(hit.topic.id for hit in ranking.hits),
            meaning_off=ranking.meaning_off,
        )
        if ranking.abstained:
            return replace(
                answer,
                abstained=True,
                nearest=tuple(hit.topic.id for hit in ranking.nearest),
                note="The atlas does not cover this question."
                if not ranking.field
                else f"The atlas does not cover this question: it looks like one about {ranking.field}.",
            )
        match intent:
            case "comparison":
                answer = self._compare(answer, ranking)
            case "definition" if self._names_two(answer.wording):
                answer = self._compare(answer, ranking)
            case "prerequisites" | "path":
                answer = self._prerequisites(answer, self._on_subject(question, ranking))
            case "list":
                answer = self._list(answer, ranking)
            case "demo":
                answer = self._demo(answer, self._on_subject(question, ranking))
            case "definition" | "why" | "how" | "number":
                answer = self._explain(answer, ranking)
        told = {answer.topic, *answer.citations, *answer.nearest}
        return replace(answer, related=tuple(each for each in answer.ranked if each not in told)[:RELATED])

    def _on_subject(self, question: str, ranking: Ranking) -> Ranking:
        """The ranking for what the question is about, without the words that ask for it."""
        found = self._searcher.search(subject_of(question))
        return ranking if found.abstained else found

    # Explanations

    def _explain(self, answer: Answer, ranking: Ranking) -> Answer:
        """Sentences of the best topic: its summary, which stands alone, then the passage nearer to the question.

        A passage from the middle of a detail answers more exactly, but says little to who does not know its subject.
        """
        topic = self._written_place(ranking.hits[0].topic)
        if topic is None:
            return self._unwritten(answer, ranking.hits[0].topic, ranking)
        texts = [(p, near) for p, near in self._searcher.passages_about(answer.wording, topic.id) if p.field in TEXTS]
        summary = sentences_of(topic.summary)
        nearer = self._nearer(topic, texts) if answer.intent != "definition" else []
        chosen = [*summary[:OF_SUMMARY], *nearer] if nearer else summary
        if not nearer and answer.intent in ("why", "how", "number"):
            chosen += self._further(answer, topic, chosen)
        return self._with_topic(answer, topic, chosen[:MOST_SENTENCES])

    def _nearer(self, topic: Topic, texts: Sequence[tuple[Passage, float]]) -> list[str]:
        """The first sentences of a detail or a misconception that is clearly nearer than the summary."""
        of_summary = next((near for passage, near in texts if passage.field == "summary"), 0.0)
        if not texts or texts[0][0].field == "summary" or texts[0][1] < of_summary + NEARER:
            return []
        text = texts[0][0].text.removeprefix(f"{topic.title}: ")
        return (sentences_of(text) if texts[0][0].field == "misconception" else prose_of(text))[:OF_PASSAGE]

    def _further(self, answer: Answer, topic: Topic, told: Iterable[str]) -> list[str]:
        """Up to two sentences of the detail that bring words of the question which are not told yet; in their order.

        For a question about a number, sentences with digits only.
        """
        asked = {form for word in words_of_query(answer.wording) for form in word.forms}
        missing = asked - {word for sentence in told for word in words_of(sentence)}
        sentences = [
            sentence
            for sentence in prose_of(topic.detail)
            if answer.intent != "number" or any(sign.isdigit() for sign in sentence)
        ]
        gains = {sentence: len(missing.intersection(words_of(sentence))) for sentence in sentences}
        best = sorted((s for s in gains if gains[s]), key=lambda s: -gains[s])[:2]
        return [sentence for sentence in sentences if sentence in best]

    def _with_topic(self, answer: Answer, topic: Topic, sentences: Iterable[str]) -> Answer:
        asks_for_formula = bool(_FORMULA.search(answer.wording)) or any(
            word.is_symbol for word in words_of_query(answer.wording)
        )
        return replace(
            answer,
            topic=topic.id,
            sentences=_cited(topic, sentences),
            formula=topic.formula if asks_for_formula or answer.intent in ("definition", "how") else "",
            demo=topic.demo,
        )

    def _written_place(self, topic: Topic) -> Topic | None:
        """The topic, or where it has no text the first of its twins that has."""
        return next((place for place in (topic, *self._store.twins(topic.id)) if place.summary), None)

    def _unwritten(self, answer: Answer, topic: Topic, ranking: Ranking) -> Answer:
        """The honest answer where the topic was found and its text is not there: who else may help."""
        written = self._relatives(topic, ranking)
        note = f"The text of “{' › '.join(topic.title_path)}” is not written yet."
        if written:
            note += f" Nearest topic with a text: “{' › '.join(written[0].title_path)}”."
        demo = f" Its demo can be looked at: {topic.demo.demo}." if topic.demo is not None else ""
        return replace(
            answer,
            abstained=True,
            topic=topic.id,
            demo=topic.demo,
            nearest=tuple(
                dict.fromkeys([*(each.id for each in written), *(hit.topic.id for hit in ranking.hits[1:3])])
            ),
            note=note + demo,
        )

    def _relatives(self, topic: Topic, ranking: Ranking) -> list[Topic]:
        """Up to three topics with a text: the topic's ancestors, nearest first, then other hits of the search."""
        others = [*reversed(self._store.ancestors(topic.id)), *(hit.topic for hit in ranking.hits[1:])]
        written = {place.id: place for place in map(self._written_place, others) if place is not None}
        return list(written.values())[:3]

    # Comparisons

    def _compare(self, answer: Answer, ranking: Ranking) -> Answer:
        """The authored table of the two sides; without one, a table of what each side's own text says."""
        sides = self._sides(answer.wording, ranking)
        comparison = self._authored(answer.wording, sides, ranking)
        named = [side.topics[0] for side in sides]
        leading = [*(self._store.topic(side) for side in (comparison.between if comparison else ())), *named]
        leading += [topic for rest in zip_longest(*(side.topics[1:] for side in sides)) for topic in rest if topic]
        ranked = dict.fromkeys([*(topic.id for topic in leading), *answer.ranked])
        answer = replace(answer, ranked=tuple(ranked)[:MOST_RANKED])
        if comparison is not None:
            return self._tabulated(answer, comparison)
        if len(named) < 2:
            return self._explain(answer, ranking)
        written = [place for place in map(self._written_place, named) if place is not None]
        titles = " and ".join(f"“{side.title}”" for side in named)
        if len(written) < len(named):
            missing = next(side for side in named if self._written_place(side) is None)
            unwritten = self._unwritten(answer, missing, ranking)
            nearest = tuple(dict.fromkeys([*(side.id for side in named), *unwritten.nearest]))
            return replace(unwritten, note=f"Nobody has compared {titles} yet. {unwritten.note}", nearest=nearest)
        told = [sentence for place in written for sentence in _cited(place, sentences_of(place.summary)[:OF_SIDE])]
        return replace(
            answer,
            topic=written[0].id,
            sentences=tuple(told),
            table=built_table(written, self._store),
            note=f"Nobody has compared {titles} yet: the table is put together from what the atlas says of each.",
        )

    def _names_two(self, question: str) -> bool:
        """Whether it asks for two topics by their names: "describe adversarial loss and cycle-consistency loss"."""
        for worded in sides_of(unglued(question)) if " and " in question else []:
            names = [name for name in map(self._searcher.nearest_name, worded) if name and name[1] >= NAMED]
            if len({topic.id for topic, _ in names}) == 2:
                return True
        return False

    def _sides(self, question: str, ranking: Ranking) -> list[_Side]:
        """The two sides that the wording of a question tells; none where it is silent.

        Of several readings ("zero-shot and few-shot prompting") the one whose sides are both nearest to names.
        """
        near = {hit.topic.id for hit in ranking.hits}
        readings: list[list[_Side]] = []
        for worded in sides_of(unglued(question)):
            sides = [self._side(words, near, is_left) for words, is_left in zip(worded, (True, False), strict=True)]
            told = [side for side in sides if side is not None]
            told = [self._at_home(side, ranking) for side in told]
            if len({side.topics[0].id for side in told}) == 2:
                readings.append(told)
        return max(readings, key=lambda told: min(side.nearness for side in told), default=list[_Side]())

    def _at_home(self, side: _Side, ranking: Ranking) -> _Side:
        """The side led by that place of its name which the whole question finds: "fine-tuning in LLMs" is not ViT's."""
        title = side.topics[0].title.casefold()
        here = [hit.topic for hit in ranking.hits if hit.topic.title.casefold() == title]
        return replace(side, topics=list({topic.id: topic for topic in (*here, *side.topics)}.values()))

    def _side(self, words: str, near: Collection[str], is_left: bool) -> _Side | None:
        """What one side's words mean: what they find as a whole, led by a topic that a part of them names outright.

        Only the part beside the other side counts: the end of the left side's words, the beginning of the right's.
        """
        found = self._searcher.search(words, k=OF_SIDE)
        topics = [hit.topic for hit in found.hits or found.nearest]
        whole = self._searcher.nearest_name(words)
        if whole is not None and whole[1] < NAMED:
            typed = words.split()
            parts = [typed[-n:] if is_left else typed[:n] for n in range(1, min(len(typed), LONGEST_NAME + 1))]
            names = [self._searcher.nearest_name(" ".join(part)) for part in parts if len("".join(part)) > 1]
            topic, cosine = max((name for name in names if name), key=itemgetter(1), default=whole)
            if cosine >= OUTRIGHT:
                return _Side(list({each.id: each for each in (topic, *topics)}.values()), cosine)
        if found.hits or found.evidence >= ENOUGH - SLACK or any(topic.id in near for topic in topics[:1]):
            return _Side(topics, 0.0 if whole is None else whole[1])
        return None

    def _authored(self, question: str, sides: Sequence[_Side], ranking: Ranking) -> Comparison | None:
        """The comparison of what is nearest to both sides; else of those that others of their topics, or a like
        question, lead to, the one whose question is nearest; else that of two first hits.

        Where the sides are sure, a comparison that has neither, nor a parent of one, is no answer.
        """
        nearness = self._searcher.nearness_of_comparisons(question)
        like = max(nearness, key=nearness.__getitem__, default="")
        alike = self._store.comparison(like) if nearness.get(like, 0) >= SAME_QUESTION else None
        if not sides:
            return alike or self._of_first_hits(ranking)
        one, other = sides
        found = [comparison_between(self._store, a.id, b.id) for a, b in product(one.topics, other.topics)]
        if found[0] is not None:
            return found[0]
        is_sure = one.is_sure and other.is_sure
        leading = [side.topics[0] for side in sides]
        named = {place for topic in leading for place in (*self._places(topic.id), topic.parent)}
        if alike is not None and (not is_sure or named & {*alike.between}):
            found.append(alike)
        likely = [each for each in found if each and nearness.get(each.id, 0) >= LIKE_QUESTION]
        nearest = max(likely, key=lambda each: nearness[each.id], default=None)
        return nearest or (None if is_sure else self._of_first_hits(ranking))

    def _of_first_hits(self, ranking: Ranking) -> Comparison | None:
        """A comparison of one of the two first hits with another of the first five."""
        hits: Sequence[Hit] = ranking.hits[:5]
        for hit, other in product(hits[:2], hits):
            found = comparison_between(self._store, hit.topic.id, other.topic.id)
            if found is not None:
                return found
        return None

    def _places(self, topic_id: str) -> set[str]:
        return {topic_id, *(twin.id for twin in self._store.twins(topic_id))}

    def _tabulated(self, answer: Answer, comparison: Comparison) -> Answer:
        sides = [self._store.topic(side) for side in comparison.between]
        same = [Sentence(text, sides[0].id, comparison.refs) for text in sentences_of(comparison.same)]
        choose = [Sentence(text, sides[-1].id, comparison.refs) for text in sentences_of(comparison.choose)]
        kept = (*same[:2], *choose[: MOST_SENTENCES - 2])
        return replace(
            answer, topic=sides[0].id, sentences=kept, table=authored_table(comparison, self._store), demo=sides[0].demo
        )

    # Prerequisites, lists, demos

    def _prerequisites(self, answer: Answer, ranking: Ranking) -> Answer:
        """Each direct prerequisite of the best topic with its reason; what is needed comes before what helps.

        Of a concept with several places the canonical one answers, of a section its direct subtopics as well.
        """
        topic = self._store.canonical(ranking.hits[0].topic.id)
        holders = [topic, *(self._store.children(topic.id) if topic.depth == 0 else ())]
        within = f"{topic.id}/"
        edges = [
            edge
            for edge in dict.fromkeys(e for holder in holders for e in self._store.effective_prerequisites(holder.id))
            if not edge.before.startswith(within)
        ]
        by_need = sorted(
            edges, key=lambda edge: (edge.strength != "needed", edge.after != topic.id, -len(edge.after))
        )  # its own, then its parts', then inherited
        told = [self._reason(edge) for edge in _each_once(by_need)]
        order = f"The whole order of study: genatlas path {topic.id}"
        if not told:
            note = f"“{topic.title}” needs no other topic of the atlas first, as far as is written. {order}"
            return replace(self._explain(answer, ranking), note=note)
        return replace(answer, topic=topic.id, sentences=tuple(told[:MOST_SENTENCES]), note=order)

    def _reason(self, edge: Prerequisite) -> Sentence:
        before = self._store.topic(edge.before)
        helpful = " (helpful, not needed)" if edge.strength == "helpful" else ""
        return Sentence(f"{before.title}{helpful}: {edge.why}", before.id, self._store.topic(edge.after).refs)

    def _list(self, answer: Answer, ranking: Ranking) -> Answer:
        """The subtopics of the first topic that has some, each with its first sentence where it is written."""
        for hit in ranking.hits[:3]:
            parts = self._store.children(hit.topic.id)
            if len(parts) > 1:
                lead = _cited(hit.topic, sentences_of(hit.topic.summary)[:1])
                items = [item for part in parts for item in _cited(part, [_item(part)])]
                return replace(answer, topic=hit.topic.id, sentences=(*lead, *items), demo=hit.topic.demo)
        return self._explain(answer, ranking)

    def _demo(self, answer: Answer, ranking: Ranking) -> Answer:
        """The demo of the first topic that has one, and what to look at in it."""
        topic = next((hit.topic for hit in ranking.hits if hit.topic.demo is not None), None)
        if topic is None or topic.demo is None:
            return replace(self._explain(answer, ranking), note="No demo shows this.")
        shown = f"{topic.demo.look_at.rstrip('.')}."
        return replace(answer, topic=topic.id, sentences=_cited(topic, [shown]), demo=topic.demo)


def _cited(topic: Topic, sentences: Iterable[str]) -> tuple[Sentence, ...]:
    return tuple(Sentence(text, topic.id, topic.refs) for text in dict.fromkeys(sentences))


def _item(topic: Topic) -> str:
    first = sentences_of(topic.summary)[:1]
    return f"{topic.title}: {first[0]}" if first else f"{topic.title}."


def _each_once(edges: Iterable[Prerequisite]) -> Iterator[Prerequisite]:
    """The edges, the first for each topic, and one alternative of an either-or."""
    told: set[str] = set()
    for edge in edges:
        names = {edge.before} if edge.group is None else {edge.before, f"group {edge.group}"}
        if not told & names:
            yield edge
        told |= names
