"""One job at a time, in the order in which they come, all of them in one thread.

OpenGL's contexts belong to a thread, and PyTorch and malloc keep memory for each that ever computed: with one
thread a page stays as large as it was.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

LOOK_EVERY = 0.5  # seconds between looks at whether somebody still waits
ENDED = {"error": "the program was ended: start it again"}

Tell = Callable[[dict], None]  # sends a message to whoever waits


class Busy(Exception):
    """All places are taken, or the program ends."""


class Dropped(Exception):
    """Nobody waits for the job any longer, or the program ends."""


class Job:
    """Work for which somebody waits.

    Args:
        work: is given a function that tells how far it is, and returns the last message. That function raises
            `Dropped` where there is nobody to tell.
        gone: whether whoever asked has hung up.
        end: is called once, when the job is done or dropped.
    """

    def __init__(self, work: Callable[[Tell], dict], gone: Callable[[], bool], end: Callable[[], None]):
        self._work, self._gone, self._end = work, gone, end
        self._told: SimpleQueue[dict | None] = SimpleQueue()
        self._dropped = False

    def tell(self, message: dict) -> None:
        if self._dropped or self._gone():
            raise Dropped
        self.hear(message)

    def run(self) -> None:
        if self._dropped or self._gone():
            return self.close(ENDED)
        try:
            last = self._work(self.tell)
        except Dropped:
            last = ENDED
        self.close(last)

    def drop(self) -> None:
        """Ends it at the next thing that it tells."""
        self._dropped = True

    def close(self, last: dict) -> None:
        self._end()
        self.hear(last)
        self._told.put(None)

    def hear(self, message: dict) -> None:
        """Keeps a message for whoever listens."""
        self._told.put(message)

    def messages(self) -> Iterator[dict]:
        """What it tells, to its end or until nobody waits."""
        while not self._gone():
            try:
                message = self._told.get(timeout=LOOK_EVERY)
            except Empty:
                continue
            if message is None:
                return
            yield message


class Desk:
    """Where jobs are done. `places` bounds those under way, from before they are handed in to their end."""

    def __init__(self, places: int):
        self._places = threading.BoundedSemaphore(places)
        self._line: deque[Job] = deque()
        self._running: Job | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="desk", daemon=True)
        self._thread.start()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place; raises `Busy` where there is none."""
        if self._closed or not self._places.acquire(blocking=False):
            raise Busy
        try:
            yield
        finally:
            self._places.release()

    def take(self, job: Job) -> Iterator[dict]:
        """Takes a job, which comes after those that are there; what it tells.

        It is dropped when nobody asks for the next message any more.
        """
        with self._changed:
            closed, before = self._closed, len(self._line) + (self._running is not None)
            job.hear({"doing": f"Waiting for {before} other requests" if before else "Starting"})
            if not closed:
                self._line.append(job)
                self._changed.notify()
        if closed:
            job.close(ENDED)
        return self._listen(job)

    def _listen(self, job: Job) -> Iterator[dict]:
        try:
            yield from job.messages()
        finally:
            self._leave(job)

    def close(self) -> None:
        """Drops what waits, and returns when the running job has ended at the next thing that it tells."""
        with self._changed:
            self._closed = True
            for job in (*self._line, self._running):
                if job is not None:
                    job.drop()
            self._changed.notify()
        self._thread.join()

    def _leave(self, job: Job) -> None:
        job.drop()
        with self._changed:
            waits = job in self._line
            if waits:
                self._line.remove(job)
        if waits:
            job.close(ENDED)

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            job.run()

    def _next(self) -> Job | None:
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._line or self._closed)
            self._running = self._line.popleft() if self._line else None
            return self._running
