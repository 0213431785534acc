"""The learners of one installation, over the atlas that is open."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from graph import GraphStore
from service.settings import Settings
from study import (
    Changes,
    Event,
    Learner,
    ProfileUnknown,
    Status,
    mark_topics,
    progress_json,
    read_progress,
    take_note,
    unmark_topics,
)

if TYPE_CHECKING:
    from study.cards import Card
    from study.learner import Memory, Profile
    from study.memory import Rating
    from study.placement import Placement, Placer
    from study.progress import ProgressStore
    from study.recall import Recall, Weak

FILE = "progress.db"
PLACERS = 16
"""Sections that are kept ready to be asked about: some megabytes each."""


class Learners:
    """Profiles by name, and what they do. Safe to share between threads.

    The settings' own profile begins with its first change; every other one is made with `create`. Methods raise
    ProfileUnknown, ProgressUnavailable and ProgressUnreadable. A topic that the atlas has no longer is kept: it comes
    with the others, and `gone` names it.
    """

    def __init__(self, settings: Settings, store: GraphStore) -> None:
        self._settings = settings
        self._store = store

    @property
    def default(self) -> str:
        """The profile that the settings name."""
        return self._settings.profile

    def profiles(self) -> "list[Profile]":
        """All profiles, by name; looking makes no database where there is none yet."""
        return self._progress.profiles() if self._begun else []

    def learner(self, name: str) -> Learner:
        """A learner as of now; the settings' own profile is empty until something is kept in it."""
        if name == self.default and not self._begun:
            return Learner(name, datetime.now(UTC))
        try:
            return self._progress.learner(name)
        except ProfileUnknown:
            if name != self.default:
                raise
            return Learner(name, datetime.now(UTC))

    def known(self, name: str) -> list[str]:
        """The topics that a learner knows and the atlas has."""
        return [topic_id for topic_id in self.learner(name).having("known") if topic_id in self._ids]

    def gone(self, learner: Learner) -> list[str]:
        """The topics that the learner has something about and the atlas has no longer."""
        return sorted(learner.topics - self._ids)

    def history(self, name: str) -> list[Event]:
        """Everything that a learner did, first things first."""
        return self._progress.history(name)

    def create(self, name: str) -> Learner:
        """Add an empty profile. Raises ProfileExists and ProfileNameInvalid."""
        return self._progress.create(name)

    def mark(self, name: str, topic_ids: Sequence[str], status: Status) -> Learner:
        """Give topics a status, as the learner's own word. Raises TopicNotFound."""
        for topic_id in topic_ids:
            self._store.topic(topic_id)
        return self._change(name, lambda learner, now: mark_topics(learner, topic_ids, status, now))

    def unmark(self, name: str, topic_ids: Sequence[str]) -> Learner:
        """Take the marks off topics, whether the atlas has them or not, and these out of the reviews."""
        return self._change(name, lambda learner, now: unmark_topics(learner, topic_ids, now))

    def note(self, name: str, topic_id: str, text: str) -> Learner:
        """Keep a note about a topic in place of the one before; an empty one takes it away."""
        return self._change(name, lambda learner, now: take_note(learner, topic_id, text, now))

    # Reviews

    def enrol(self, name: str, topic_ids: Sequence[str]) -> Learner:
        """Let topics be reviewed; those in review already, at any of their places, stay as they are.

        Raises TopicNotFound.
        """
        for topic_id in topic_ids:
            self._store.topic(topic_id)
        return self._change(name, lambda learner, now: self._recall.enrol(learner, topic_ids, now))

    def due(self, learner: Learner) -> list[str]:
        """The topics whose review is due, the least likely to be remembered first."""
        return self._recall.due(self._memories(learner), datetime.now(UTC))

    def due_by_day(self, learner: Learner, days: int) -> list[int]:
        """How many topics come due on each of the next days, what is overdue on the first."""
        from study.recall import due_within

        return due_within(self._memories(learner), datetime.now(UTC), days)

    def next_card(self, learner: Learner) -> "Card | None":
        """What to ask now: the topic whose review saves most others, with one of its questions; None if none is due."""
        from study.cards import card_for

        memories = self._memories(learner)
        topic_id = self._recall.next_due(memories, datetime.now(UTC))
        if topic_id is None:
            return None
        return card_for(self._store, topic_id, learner.topics, memories[topic_id].last_review.date())

    def review(self, name: str, topic_id: str, rating: "Rating") -> Learner:
        """Keep how a recall went; what was not in review, at any place of its concept, is from now on.

        Raises TopicNotFound.
        """
        self._store.topic(topic_id)
        return self._change(name, lambda learner, now: self._recall.review(learner, topic_id, rating, now))

    def in_review(self, learner: Learner, topic_id: str) -> str:
        """The place at which a topic is in review: its own, or a twin's."""
        return self._recall.place(learner.memories, topic_id)

    def weakest(self, learner: Learner, topic_id: str) -> "Weak | None":
        """The prerequisite that may be why a topic was not recalled: the one least likely to be remembered."""
        return self._recall.weakest(self._memories(learner), topic_id, datetime.now(UTC))

    def _memories(self, learner: Learner) -> "Mapping[str, Memory]":
        """What can be asked about: the topics in review that the atlas has."""
        return {topic_id: memory for topic_id, memory in learner.memories.items() if topic_id in self._ids}

    # Placement

    def place(self, learner: Learner, topic_id: str, answers: Mapping[str, bool]) -> "Placement":
        """What answers (known or not, by topic) say about a section, or any topic with all beneath it, and what to ask.

        What the learner has marked as known is not asked about. Raises TopicNotFound.
        """
        marked = [each for each, mark in learner.marks.items() if (mark.status, mark.origin) == ("known", "told")]
        return self._placer(topic_id).place(answers, [each for each in marked if each not in answers])

    def keep_placement(self, name: str, topic_id: str, answers: Mapping[str, bool]) -> Learner:
        """Keep what a placement found: answers as told, the rest as inferred. Raises TopicNotFound."""
        from study.placement import placed

        self._placer(topic_id)  # made before the database waits
        return self._change(
            name, lambda learner, now: placed(learner, self.place(learner, topic_id, answers), answers, now)
        )

    def forget_inferred(self, name: str, topic_id: str) -> Learner:
        """Take off what placements have inferred about a topic and all beneath it. Raises TopicNotFound."""
        beneath = {topic.id for topic in self._store.subtree(topic_id)}

        def forget(learner: Learner, now: datetime) -> Changes:
            inferred = [each for each, mark in learner.marks.items() if mark.origin == "inferred" and each in beneath]
            return unmark_topics(learner, inferred, now)

        return self._change(name, forget)

    @cached_property
    def _placer(self) -> "Callable[[str], Placer]":
        from study.placement import Placer

        return lru_cache(maxsize=PLACERS)(partial(Placer, self._store))

    # The whole profile

    def delete(self, name: str) -> None:
        """Delete a profile with all that belongs to it."""
        self._progress.delete(name)

    def exported(self, name: str) -> bytes:
        """All of a learner's data as JSON that `restore` reads."""
        file = self._progress.exported(name)
        return progress_json(file.learner, file.history)

    def restore(self, data: bytes, name: str | None = None) -> Learner:
        """Add a profile from exported data. Raises ProfileExists, ProfileNameInvalid and ProgressUnreadable."""
        return self._progress.restore(read_progress(data), name)

    def _change(self, name: str, edit: Callable[[Learner, datetime], Changes]) -> Learner:
        now = datetime.now(UTC)
        return self._progress.change(name, lambda learner: edit(learner, now), create=name == self.default)

    @cached_property
    def _recall(self) -> "Recall":
        from study.recall import Recall

        return Recall(self._store)

    @cached_property
    def _ids(self) -> frozenset[str]:
        return frozenset(topic.id for topic in self._store.topics())

    @property
    def _begun(self) -> bool:
        """Whether there may be a database; looking makes none."""
        return self._settings.progress_url is not None or self._file.exists()

    @property
    def _file(self) -> Path:
        return self._settings.home / FILE

    @cached_property
    def _progress(self) -> "ProgressStore":
        from study.database import sqlite_url
        from study.progress import ProgressStore

        url = self._settings.progress_url
        return ProgressStore(url.get_secret_value() if url else sqlite_url(self._file))
