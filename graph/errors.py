"""What can go wrong when the atlas is asked something, worded once for the command line, HTTP and Streamlit."""

from collections.abc import Sequence


class AtlasError(Exception):
    """Root of every error that a user can cause or mend. Its message says what, where and what to do next."""


class TopicNotFound(AtlasError):
    """The atlas has no topic of this id. `nearest` are ids that read like it, best first."""

    def __init__(self, topic_id: str, nearest: Sequence[str] = ()) -> None:
        self.topic_id = topic_id
        self.nearest = tuple(nearest)
        hint = f" Nearest: {', '.join(self.nearest)}." if self.nearest else ""
        words = topic_id.rsplit("/", 1)[-1].replace("-", " ")
        super().__init__(f'No topic "{topic_id}".{hint} To search by words: genatlas search "{words}"')


class ComparisonNotFound(AtlasError):
    """The atlas has no comparison of this id. `nearest` are ids that read like it, best first."""

    def __init__(self, comparison_id: str, nearest: Sequence[str] = ()) -> None:
        self.comparison_id = comparison_id
        self.nearest = tuple(nearest)
        hint = f" Nearest: {', '.join(self.nearest)}." if self.nearest else ""
        super().__init__(f'No comparison "{comparison_id}".{hint}')


class StoreUnavailable(AtlasError):
    """The store cannot answer at present. Never stands for an empty answer."""
