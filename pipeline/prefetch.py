"""Reads ahead in a thread, so that loading the next items overlaps with working on this one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Key, Item = TypeVar("Key"), TypeVar("Item")


def prefetch(load: Callable[[Key], Item], keys: Iterable[Key], *, ahead: int = 2) -> Iterator[Item]:
    """Yields `load(key)` for every key in order, loading up to `ahead` items early.

    A thread, not a process: decoding releases the interpreter's lock, and errors arrive unchanged.
    """
    remaining = iter(keys)
    with ThreadPoolExecutor(max_workers=1) as executor:
        waiting = deque(executor.submit(load, key) for key in islice(remaining, ahead))
        while waiting:
            item = waiting.popleft().result()
            waiting.extend(executor.submit(load, key) for key in islice(remaining, 1))
            yield item
