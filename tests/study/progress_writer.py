"""A process of its own that keeps marks, and says on standard output which ones are kept: `URL NAME COUNT`."""

import sys
from datetime import UTC, datetime

from study import mark_topics
from study.progress import ProgressStore


def main(url: str, name: str, count: int) -> None:
    store = ProgressStore(url)
    for number in range(count):
        topic_id = f"{name}/{number}"
        now = datetime.now(UTC)
        store.change("ann", lambda learner, topic_id=topic_id, now=now: mark_topics(learner, [topic_id], "known", now))
        sys.stdout.write(f"{topic_id}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
