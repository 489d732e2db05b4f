"""A queue of jobs that run one at a time, in one thread.

OpenGL contexts belong to a thread, and PyTorch and malloc keep memory for every thread that ever computed:
with a single one the process does not grow.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

LOOK_EVERY = 0.5  # seconds between checks whether the client is still connected
ENDED = {"error": "the program was ended: start it again"}

Tell = Callable[[dict], None]  # sends a message to the client


class Busy(Exception):
    """The queue is full, or the program ends."""


class Dropped(Exception):
    """The client has gone, or the program ends."""


class Job:
    """Work that a client waits for.

    Args:
        work: gets a function to send messages about its progress with, and returns the last message. The
            function raises `Dropped` if the client has gone.
        gone: whether the client has closed its connection.
        end: called once, when the job is done or dropped.
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
        """Ends the job when it sends its next message."""
        self._dropped = True

    def close(self, last: dict) -> None:
        self._end()
        self.hear(last)
        self._told.put(None)

    def hear(self, message: dict) -> None:
        """Queues a message for the client."""
        self._told.put(message)

    def messages(self) -> Iterator[dict]:
        """The job's messages, until it ends or the client has gone."""
        while not self._gone():
            try:
                message = self._told.get(timeout=LOOK_EVERY)
            except Empty:
                continue
            if message is None:
                return
            yield message


class Desk:
    """Runs jobs. `places` bounds their number, from before they are received to their end."""

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
        """Holds a place; raises `Busy` if none is free."""
        if self._closed or not self._places.acquire(blocking=False):
            raise Busy
        try:
            yield
        finally:
            self._places.release()

    def take(self, job: Job) -> Iterator[dict]:
        """Queues a job and returns its messages; it is dropped when nobody iterates over them any more."""
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
        """Drops all waiting jobs and returns when the running one has sent its next message and ended."""
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
