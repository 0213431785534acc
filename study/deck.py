"""A study path as an Anki deck: the authored questions on the front, the topic's own text on the back."""

import hashlib
import io
import re
from collections.abc import Callable
from html import escape

from graph import GraphStore, Topic
from study.path import StudyPath

NOTE_TYPE = 1_607_392_319
"""Anki's number for our kind of note. It must never change: a note whose kind is another cannot be updated."""
_FRONT = '<div class="place">{{Place}}</div>{{Question}}'
_BACK = (
    '{{FrontSide}}<hr id="answer"><b>{{Topic}}</b>{{Answer}}{{#Formula}}{{Formula}}{{/Formula}}'
    '{{#Link}}<p><a href="{{Link}}">Open in GenAtlas</a></p>{{/Link}}'
)
_STYLE = ".card { font: 20px sans-serif; text-align: left; } .place { font-size: 14px; color: #778; }"


def path_deck(
    path: StudyPath, store: GraphStore, link: Callable[[str], str] | None = None, made: float | None = None
) -> bytes:
    """Return an Anki package (.apkg) with a card for each question of each step, in study order.

    Ids come from the goals, the topic and the question, so that importing a later package updates the cards and keeps
    what Anki knows of the learner. `made` is the time of writing in seconds since 1970; now if left out.
    Steps of which the gist is enough bring one question, the others all.
    """
    import genanki

    note_type = genanki.Model(
        NOTE_TYPE,
        "GenAtlas question",
        fields=[{"name": name} for name in ("Question", "Topic", "Place", "Answer", "Formula", "Link")],
        templates=[{"name": "Question", "qfmt": _FRONT, "afmt": _BACK}],
        css=_STYLE,
    )
    goals = " and ".join(store.topic(goal).title for goal in path.goals)
    deck = genanki.Deck(_number("+".join(path.goals)), f"GenAtlas::{goals}")
    for step in path.steps:
        for question in step.topic.questions[: 1 if step.gist else None]:
            deck.add_note(
                genanki.Note(
                    note_type,
                    _fields(step.topic, question, link),
                    guid=genanki.guid_for("genatlas", step.topic.id, question),
                    tags=[_tag(step.topic.section), *([_tag(step.topic.level)] if step.topic.level else [])],
                    due=len(deck.notes),
                )
            )
    package = io.BytesIO()
    genanki.Package(deck).write_to_file(package, timestamp=made)
    return package.getvalue()


def _fields(topic: Topic, question: str, link: Callable[[str], str] | None) -> list[str]:
    wrong = f"<p><i>Often got wrong:</i> {escape(topic.misconception)}</p>" if topic.misconception else ""
    answer = f"<p>{escape(topic.summary)}</p>{wrong}"
    formula = f"\\[{escape(topic.formula)}\\]" if topic.formula else ""  # Anki draws it with MathJax
    place = escape(" › ".join(topic.title_path[:-1]))
    return [escape(question), escape(topic.title), place, answer, formula, link(topic.id) if link else ""]


def _number(text: str) -> int:
    """A positive 31-bit number that stands for the text, as Anki wants its ids."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1 | 1


def _tag(word: str) -> str:
    return re.sub(r"\s+", "_", word)
