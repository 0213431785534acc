"""The learners of one installation, over the atlas that is open."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cached_property
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
    from study.learner import Profile
    from study.progress import ProgressStore

FILE = "progress.db"


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
        if not self._settings.progress_url and not self._file.exists():
            return []
        return self._progress.profiles()

    def learner(self, name: str) -> Learner:
        """A learner as of now; the settings' own profile is empty until something is kept in it."""
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
    def _ids(self) -> frozenset[str]:
        return frozenset(topic.id for topic in self._store.topics())

    @property
    def _file(self) -> Path:
        return self._settings.home / FILE

    @cached_property
    def _progress(self) -> "ProgressStore":
        from study.progress import ProgressStore, sqlite_url

        url = self._settings.progress_url
        return ProgressStore(url.get_secret_value() if url else sqlite_url(self._file))
