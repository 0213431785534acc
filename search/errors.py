"""What can go wrong when a text is searched for, worded once for the command line, HTTP and Streamlit."""

from pathlib import Path

from graph import AtlasError


class QueryRefused(AtlasError):
    """The query cannot be searched for as it stands."""


class EmptyQuery(QueryRefused):
    """The query has no letter and no digit."""

    def __init__(self) -> None:
        super().__init__('The query is empty. Type what you look for, for example "mode collapse".')


class QueryTooLong(QueryRefused):
    """The query is longer than what is searched with, `limit` characters."""

    def __init__(self, length: int, limit: int) -> None:
        self.length = length
        self.limit = limit
        super().__init__(
            f"The query has {length:,} characters, and at most {limit:,} are searched for. "
            "Ask one question, or paste the sentence that matters."
        )


class ModelUnavailable(AtlasError):
    """The encoder cannot be exported or opened. The message carries the reason and what to do."""


class IndexUnreadable(AtlasError):
    """A file of a search index is missing or is not what was written."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        super().__init__(f"The search index {path.name} {what}. The data is derived, so rebuild it: genatlas build")
