"""What a learner says about topics, as changes to what is known of the learner: marks and notes."""

from collections.abc import Sequence
from datetime import datetime

from study.learner import Changes, Event, Learner, Mark, Status


def mark_topics(learner: Learner, topic_ids: Sequence[str], status: Status, now: datetime) -> Changes:
    """Return the changes that give topics a status as the learner's own word; what stands so already stays as it is."""
    new: dict[str, Mark] = {}
    for topic_id in topic_ids:
        mark = learner.marks.get(topic_id)
        if mark is None or (mark.status, mark.origin) != (status, "told"):
            new[topic_id] = Mark(status, now)
    events = [Event(now, "marked", topic_id, {"status": status, "origin": "told"}) for topic_id in new]
    return Changes(marks=dict(new), events=events)


def unmark_topics(learner: Learner, topic_ids: Sequence[str], now: datetime) -> Changes:
    """Return the changes that take the marks off topics, and these out of the reviews."""
    marked = [topic_id for topic_id in dict.fromkeys(topic_ids) if topic_id in learner.marks]
    reviewed = [topic_id for topic_id in dict.fromkeys(topic_ids) if topic_id in learner.memories]
    events = [Event(now, "unmarked", topic_id) for topic_id in dict.fromkeys([*marked, *reviewed])]
    return Changes(marks=dict.fromkeys(marked), memories=dict.fromkeys(reviewed), events=events)


def take_note(learner: Learner, topic_id: str, text: str, now: datetime) -> Changes:
    """Return the changes that keep a note about a topic in place of the one before; an empty one takes it away."""
    words = text.strip()
    if words == learner.notes.get(topic_id, ""):
        return Changes()
    return Changes(notes={topic_id: words or None}, events=[Event(now, "noted", topic_id, {"text": words})])
