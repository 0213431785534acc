"""Which topics a search may find."""

from dataclasses import dataclass

from graph import GraphStore, Level, Topic


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions that a topic has to meet, all of them; None sets no condition.

    `section` and `subtree` are topic ids. `starred` True admits only supplementary topics, False none of them.
    A topic whose level nobody has set has no level.
    """

    section: str | None = None
    level: Level | None = None
    starred: bool | None = None
    subtree: str | None = None

    def check(self, store: GraphStore) -> None:
        """Raise TopicNotFound when the section or the subtree's topic is not in the atlas."""
        for topic_id in (self.section, self.subtree):
            if topic_id is not None:
                store.topic(topic_id)

    def admits(self, topic: Topic) -> bool:
        """Whether a topic meets every condition."""
        return (
            (self.section is None or topic.section == self.section)
            and (self.level is None or topic.level == self.level)
            and (self.starred is None or topic.starred == self.starred)
            and (self.subtree is None or topic.id == self.subtree or topic.id.startswith(f"{self.subtree}/"))
        )
