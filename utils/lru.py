"""A cache of limited size that forgets what was used longest ago."""

import threading
from collections.abc import Callable
from typing import Any


class Lru:
    """The values used last, by key; a missing one is made, by one thread while the others wait.

    Args:
        limit: that the sizes of all values together may reach; the value used last is kept in any case.
        size: of a value; by default every value counts 1.
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
        """The value of a key, `make(key)` if it is not at hand."""
        with self._lock:
            value = self._values.pop(key) if key in self._values else make(key)
            self._values[key] = value
            self._sizes[key] = self._size(value) if self._size else 1
            while sum(self._sizes.values()) > self._limit and len(self._values) > 1:
                self._drop(next(iter(self._values)))
            return value

    def forget(self, which: Callable[[Any], bool]) -> None:
        """Drops the values whose keys `which` is true of."""
        with self._lock:
            for key in [key for key in self._values if which(key)]:
                self._drop(key)

    def _drop(self, key: Any) -> None:
        del self._values[key], self._sizes[key]
