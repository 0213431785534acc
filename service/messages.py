"""Which errors are a user's to mend, in one place for every front end."""

import sys

from graph import AtlasError


def user_message(error: BaseException) -> str | None:
    """Return the message to show for an error that a user can cause or mend, or None for a bug.

    The demo library has an error tree of its own; it is asked about only when it was loaded.
    """
    if isinstance(error, AtlasError):
        return str(error)
    demos = sys.modules.get("demos.errors")
    if demos is not None and isinstance(error, demos.DemoError):
        return str(error)
    return None
