"""What every store of the atlas promises. `networkx_store` keeps it in memory, `graph.neo4j` on a server."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from graph.model import Comparison, Demo, Prerequisite, Reference, Topic


class GraphStore(Protocol):
    """Read access to one atlas; its answers do not depend on which store gives them.

    Every method takes full topic ids, raises TopicNotFound for an id that the atlas lacks and StoreUnavailable
    when the store cannot answer (never an empty result instead). Topics come in outline order; edges in the outline
    order of the topic at their other end. An answer is a value that the caller may keep.
    """

    def topic(self, topic_id: str) -> Topic:
        """The topic of this id."""
        ...

    def topics(self) -> Sequence[Topic]:
        """All topics, foundations last."""
        ...

    def children(self, topic_id: str) -> Sequence[Topic]:
        """The direct subtopics."""
        ...

    def ancestors(self, topic_id: str) -> Sequence[Topic]:
        """The line above the topic, its section first and its parent last; empty for a section."""
        ...

    def subtree(self, topic_id: str) -> Sequence[Topic]:
        """The topic and everything below it."""
        ...

    def prerequisites(self, topic_id: str) -> Sequence[Prerequisite]:
        """The edges that were written at this very topic, ordered by the place of `before`."""
        ...

    def effective_prerequisites(self, topic_id: str) -> Sequence[Prerequisite]:
        """The topic's own prerequisites and those that its ancestors hand down (`after` names the holder)."""
        ...

    def dependents(self, topic_id: str) -> Sequence[Prerequisite]:
        """The edges that need this very topic directly, ordered by the place of `after`."""
        ...

    def comparisons(self, topic_id: str) -> Sequence[Comparison]:
        """The authored comparisons that have this topic as a side, in the order of the corpus."""
        ...

    def comparison(self, comparison_id: str) -> Comparison:
        """The comparison of this id. Raises ComparisonNotFound."""
        ...

    def twins(self, topic_id: str) -> Sequence[Topic]:
        """The other places of the topic's concept, the canonical one first; empty for a topic without twins."""
        ...

    def canonical(self, topic_id: str) -> Topic:
        """The place that leads the topic's concept; the topic itself where it is the only one."""
        ...

    def demos(self) -> Sequence[Demo]:
        """All demos that the corpus names, by id."""
        ...

    def demonstrated_by(self, demo_id: str) -> Sequence[Topic]:
        """The topics whose demo this is; empty for a demo that no topic names."""
        ...

    def references(self) -> Sequence[Reference]:
        """All references, by key."""
        ...

    def prefetch(self, topic_ids: Iterable[str]) -> None:
        """Hear which topics will be asked about next: a server store reads them together, in one round trip.

        It changes no answer; ids that the atlas lacks are passed over.
        """
        ...
