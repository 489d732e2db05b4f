"""A cache of limited size that forgets what was used longest ago."""

from collections.abc import Callable
from typing import Any


class Lru:
    """The values used last, by key; a missing one is made.

    Args:
        limit: that the sizes of all values together may reach; the value used last is kept in any case.
        size: of a value; by default every value counts 1.
    """

    def __init__(self, limit: float, size: Callable[[Any], float] | None = None):
        self._limit, self._size = limit, size
        self._values: dict[Any, Any] = {}  # in the order of their last use
        self._sizes: dict[Any, float] = {}

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_values": {}, "_sizes": {}}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Any) -> bool:
        return key in self._values

    def get(self, key: Any, make: Callable[[Any], Any]) -> Any:
        """The value of a key, `make(key)` if it is not at hand."""
        value = self._values.pop(key) if key in self._values else make(key)
        self._values[key] = value
        self._sizes[key] = self._size(value) if self._size else 1
        while sum(self._sizes.values()) > self._limit and len(self._values) > 1:
            oldest = next(iter(self._values))
            del self._values[oldest], self._sizes[oldest]
        return value
