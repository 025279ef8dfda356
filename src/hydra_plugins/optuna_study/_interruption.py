"""Ctrl-C and SIGTERM: a running job ends at once, the study's own bookkeeping never halfway."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether someone asked the sweep to stop."""

    def __init__(self) -> None:
        self.requested = False
        self._in_job = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take the two signals over. Only the main thread can; elsewhere nothing changes."""
        previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # nohup and background shells ignore a signal on purpose.
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
        """Within it a signal raises KeyboardInterrupt; elsewhere only a second one does."""
        self._in_job = True
        try:
            yield
        finally:
            self._in_job = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        again = self.requested
        self.requested = True
        if self._in_job or again:
            raise KeyboardInterrupt
