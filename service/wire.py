"""The JSON that other tools rely on, made in one place for all front ends (docs/formats.md)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from graph import Comparison, Prerequisite, Reference, Topic
from search import Answer, Hit, Ranking
from service.facade import DemoInfo, Service

if TYPE_CHECKING:
    from demos import Description
    from service.language_model import Retelling
    from study import FittedPath, Learner, Ready, StudyDay, Unlocks
    from study.cards import Card
    from study.memory import Rating
    from study.placement import Placement


def topic_line(topic: Topic) -> dict[str, Any]:
    """A topic as a line in a list."""
    return {"topic": topic.id, "title": topic.title, "title_path": list(topic.title_path)}


def edge(prerequisite: Prerequisite) -> dict[str, Any]:
    """A prerequisite with its reason."""
    document: dict[str, Any] = msgspec.to_builtins(prerequisite)
    return document


def reference(work: Reference) -> dict[str, Any]:
    """A work with the address where it is found."""
    return msgspec.to_builtins(work) | {"link": work.link}


def cite(work: Reference) -> str:
    """A work in one line: Kingma and Welling (2013), Auto-Encoding Variational Bayes."""
    names = [author.split(" ")[-1] for author in work.authors if author != "others"]
    many = len(names) > 2 or "others" in work.authors
    who = f"{names[0]} et al." if names and many else " and ".join(names)
    return f"{who} ({work.year}), {work.title}." if who and work.year else f"{work.title}."


def topic_page(service: Service, topic: Topic) -> dict[str, Any]:
    """A topic with everything that a page about it shows."""
    store = service.store
    document: dict[str, Any] = msgspec.to_builtins(topic)
    return document | {
        "section": topic.section,
        "children": [topic_line(child) for child in store.children(topic.id)],
        "prerequisites": [edge(each) for each in store.effective_prerequisites(topic.id)],
        "unlocks": [edge(each) for each in store.dependents(topic.id)],
        "comparisons": [{"id": each.id, "question": each.question} for each in store.comparisons(topic.id)],
        "twins": [twin.id for twin in store.twins(topic.id)],
        "references": [reference(work) for work in service.references(topic.refs)],
    }


def comparison(service: Service, of: Comparison) -> dict[str, Any]:
    """A comparison with the titles of its sides and its references."""
    return msgspec.to_builtins(of) | {
        "titles": [service.store.topic(side).title for side in of.between],
        "references": [reference(work) for work in service.references(of.refs)],
    }


def hit(found: Hit) -> dict[str, Any]:
    """A topic found, with the passage that matched and why."""
    return topic_line(found.topic) | {
        "rank": found.rank,
        "score": found.score,
        "summary": found.topic.summary,
        "matched": {"field": found.passage.field, "text": found.passage.text},
        "reasons": list(found.reasons),
        "twins": list(found.twins),
    }


def ranking(of: Ranking) -> dict[str, Any]:
    """What a search found; `hits` is empty when it abstained, and `nearest` then says what came closest."""
    return {
        "query": of.query,
        "abstained": of.abstained,
        "hits": [hit(each) for each in of.hits],
        "nearest": [hit(each) for each in of.nearest],
        "corrections": [{"typed": typed, "read": read} for typed, read in of.corrections],
        "meaning_off": of.meaning_off,
    }


def answer(service: Service, of: Answer) -> dict[str, Any]:
    """An answer with its text, its sentences and what each of them is cited to."""
    document: dict[str, Any] = msgspec.to_builtins(of)
    return document | {
        "answer": of.text,
        "citations": [
            topic_line(topic) | {"references": [reference(work) for work in service.references(topic.refs)]}
            for topic in map(service.store.topic, of.citations)
        ],
    }


def retelling(service: Service, of: "Retelling") -> dict[str, Any]:
    """A checked answer of a language model: the answer, and what the model did for it."""
    return answer(service, of.answer) | {
        "by_model": of.by_model,
        "model": of.model,
        "left_out": list(of.left_out),
        "prompt_tokens": of.prompt_tokens,
        "completion_tokens": of.completion_tokens,
        "cost": of.cost,
    }


def fitted(of: "FittedPath | None") -> dict[str, Any]:
    """What a budget left of a path, and what it left out; nothing where there is no budget."""
    if of is None:
        return {}
    return {
        "budget": of.minutes,
        "reaches": list(of.reaches),
        "left_out": [
            {
                "topic": each.step.topic.id,
                "title": each.step.topic.title,
                "minutes": each.step.minutes,
                "minutes_with_needs": each.minutes_with_needs,
            }
            for each in of.left_out
        ],
    }


def timetable(of: "Sequence[StudyDay]") -> dict[str, Any]:
    """A path laid out over days; nothing where it is not."""
    if not of:
        return {}
    return {
        "days": [
            {
                "date": day.date.isoformat(),
                "minutes": day.minutes,
                "sessions": [
                    {"topic": session.step.topic.id, "minutes": session.minutes, "continues": session.continues}
                    for session in day.sessions
                ],
                "reviews": [step.topic.id for step in day.reviews],
            }
            for day in of
        ]
    }


def ready(of: "Ready") -> dict[str, Any]:
    """A topic that can be started, how many it opens at once, and how many rest on it in the end."""
    return topic_line(of.topic) | {"opens": of.opens, "supports": of.supports}


def unlocks(of: "Unlocks") -> dict[str, Any]:
    """What a topic is good for."""
    return {
        "topic": of.topic.id,
        "direct": [edge(each) for each in of.direct],
        "supports": [each.id for each in of.supports],
        "by_section": dict(of.by_section),
    }


def learner(service: Service, of: "Learner") -> dict[str, Any]:
    """A learner with marks, notes and reviews; `gone` are the topics that the atlas has no longer."""
    return msgspec.to_builtins(of) | {"gone": service.learners.gone(of)}


def card(of: "Card") -> dict[str, Any]:
    """What a review asks, with its answer."""
    return topic_line(of.topic) | {
        "kind": of.kind,
        "question": of.question,
        "answer": of.answer,
        "formula": of.formula,
        "sides": [topic_line(side) for side in of.sides],
        "aspects": [{"name": aspect.name, "values": list(aspect.values)} for aspect in of.aspects],
    }


def reviewed(service: Service, learner: "Learner", topic_id: str, rating: "Rating") -> dict[str, Any]:
    """What a rated recall left: the topic's memory, and where to look first when it failed."""
    place = service.learners.in_review(learner, topic_id)
    weak = None if rating.recalled else service.learners.weakest(learner, place)
    return {
        "topic": place,
        "rating": rating.name,
        "memory": msgspec.to_builtins(learner.memories[place]),
        "weakest": msgspec.to_builtins(weak),
    }


def placement(service: Service, of: "Placement", answers: Mapping[str, bool]) -> dict[str, Any]:
    """What a placement found so far, told apart from inferred, and what it asks next."""
    from study.cards import question_about

    asked = None if of.ask is None else service.store.topic(of.ask)
    return {
        "section": next(iter(of.chances)),
        "ask": None if asked is None else topic_line(asked) | {"question": question_about(asked)},
        "left": of.left,
        "told": {topic_id: known for topic_id, known in answers.items() if topic_id in of.chances},
        "inferred": {topic_id: round(of.chances[topic_id], 4) for topic_id in of.inferred},
        "unsure": round(of.unsure, 1),
        "chances": {topic_id: round(chance, 4) for topic_id, chance in of.chances.items()},
    }


def demo_line(info: DemoInfo) -> dict[str, Any]:
    """A demo as a line in a list."""
    return {
        "id": info.demo.id,
        "title": info.demo.title,
        "question": info.demo.question,
        "ready": info.ready,
        "topics": len(info.topics),
    }


def demo_page(info: DemoInfo, description: "Description | None") -> dict[str, Any]:
    """A demo with its claims, parameters, presets and topics; the first three are None while it is to come."""
    spec = info.spec
    return demo_line(info) | {
        "source": spec.source if spec else None,
        "watch": spec.watch if spec else None,
        "claims": msgspec.to_builtins(spec.claims) if spec else None,
        "parameters": msgspec.to_builtins(description.parameters) if description else None,
        "presets": msgspec.to_builtins(description.presets) if description else None,
        "topics": [
            topic_line(topic) | {"params": topic.demo.params, "look_at": topic.demo.look_at}
            for topic in info.topics
            if topic.demo is not None
        ],
    }
