"""A cache of limited size that drops the least recently used values."""

import threading
from collections.abc import Callable
from typing import Any


class Lru:
    """The most recently used values by key; one thread makes a missing value while the others wait.

    Args:
        limit: of the sizes of all values together; the value used last is always kept.
        size: of a value; 1 each by default.
    """

    def __init__(self, limit: float, size: Callable[[Any], float] | None = None):
        self._limit, self._size = limit, size
        self._values: dict[Any, Any] = {}  # in the order of their last use
        self._sizes: dict[Any, float] = {}
        self._lock = threading.RLock()  # making a value may ask for another

    def __getstate__(self) -> dict:
        return {"_limit": self._limit, "_size": self._size}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["_limit"], state["_size"])

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Any) -> bool:
        return key in self._values

    def get(self, key: Any, make: Callable[[Any], Any]) -> Any:
        """The value of a key; `make(key)` if it is not cached."""
        with self._lock:
            value = self._values.pop(key) if key in self._values else make(key)
            self._values[key] = value
            self._sizes[key] = self._size(value) if self._size else 1
            while sum(self._sizes.values()) > self._limit and len(self._values) > 1:
                self._drop(next(iter(self._values)))
            return value

    def forget(self, which: Callable[[Any], bool]) -> None:
        """Drops the values for whose keys `which` is true."""
        with self._lock:
            for key in [key for key in self._values if which(key)]:
                self._drop(key)

    def _drop(self, key: Any) -> None:
        del self._values[key], self._sizes[key]
