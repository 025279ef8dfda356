"""Ctrl-C and SIGTERM: a running job ends at once, a write into the study is always completed."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Seconds in which a second signal counts as the first: some programs send it to a process and to
# its group.
ECHO_SECONDS = 1.0


class Interruption:
    """Whether someone asked the sweep to stop, and how urgently.

    The first signal asks for a stop, the second kills the jobs that still run, the third ends the
    process wherever it is.
    """

    def __init__(self) -> None:
        self.requested = False
        self.is_urgent = False
        self._last = -math.inf
        self._in_job = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Handle the two signals. Only the main thread can; elsewhere nothing changes."""
        previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # nohup and background shells ignore signals on purpose.
                if (handler := signal.getsignal(number)) is not signal.SIG_IGN:
                    previous[number] = handler
                    signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def job(self) -> Iterator[None]:
        """Raise KeyboardInterrupt at a signal, or at once if one came before."""
        self._in_job = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._in_job = False

    def interrupt(self) -> None:
        """Do from another thread what a signal does."""
        main = threading.main_thread().ident
        if main is not None and signal.getsignal(signal.SIGTERM) == self._handle:
            # To that thread, so that a call in which it waits ends.
            signal.pthread_kill(main, signal.SIGTERM)
        else:
            self.requested = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        now = time.monotonic()
        if now - self._last < ECHO_SECONDS:
            return
        self._last = now
        if self._in_job or self.is_urgent:
            self.requested = True
            raise KeyboardInterrupt
        self.is_urgent = self.requested
        self.requested = True
