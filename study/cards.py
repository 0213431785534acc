"""What a review asks about a topic: its questions, what is often got wrong, and comparisons with what is known."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from random import Random
from typing import Literal

from graph import Aspect, GraphStore, Topic

CardKind = Literal["question", "misconception", "comparison"]


@dataclass(frozen=True, slots=True)
class Card:
    """One thing to recall. A comparison has `aspects` too, with one value for each of `sides`."""

    topic: Topic
    kind: CardKind
    question: str
    answer: str
    formula: str = ""
    sides: tuple[Topic, ...] = ()
    aspects: tuple[Aspect, ...] = ()


def cards_of(store: GraphStore, topic_id: str, known: Collection[str]) -> list[Card]:
    """Return all that can be asked about a topic; comparisons only where every side is in `known`."""
    topic = store.topic(topic_id)
    cards = [Card(topic, "question", each, topic.summary, topic.formula) for each in topic.questions]
    if topic.misconception:
        asked = f"What is often got wrong about this: {topic.title}?"
        cards.append(Card(topic, "misconception", asked, topic.misconception))
    for each in store.comparisons(topic_id):
        if all(side == topic_id or side in known for side in each.between):
            sides = tuple(store.topic(side) for side in each.between)
            cards.append(Card(topic, "comparison", each.question, each.same, sides=sides, aspects=each.aspects))
    return cards or [Card(topic, "question", question_about(topic), topic.summary, topic.formula)]


def question_about(topic: Topic) -> str:
    """Return a topic's first question that is a whole one; where nobody wrote any, what the topic is."""
    whole = [each for each in topic.questions if each.endswith("?")]
    return next(iter([*whole, *topic.questions]), f"What is this: {topic.title}?")


def card_for(store: GraphStore, topic_id: str, known: Collection[str], last: date) -> Card:
    """Return what to ask about a topic that was last asked about on a day: the choice changes with that day alone."""
    return Random(f"{topic_id} {last}").choice(cards_of(store, topic_id, known))
