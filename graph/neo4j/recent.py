"""What was read from a build, kept: a build never changes, so nothing here ever grows stale."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values that were used last, at most `size` of them. Safe to share between threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def split(self, keys: Iterable[Key]) -> tuple[dict[Key, Value], list[Key]]:
        """Return the values of those keys that are kept, and the keys that are not, each once."""
        with self._lock:
            found: dict[Key, Value] = {}
            missing: dict[Key, None] = {}
            for key in keys:
                if key in self._values:
                    self._values.move_to_end(key)
                    found[key] = self._values[key]
                else:
                    missing[key] = None
            return found, list(missing)

    def keep(self, values: Mapping[Key, Value]) -> None:
        """Keep values, and let those go that were not used for longest."""
        with self._lock:
            self._values.update(values)
            while len(self._values) > self._size:
                self._values.popitem(last=False)
