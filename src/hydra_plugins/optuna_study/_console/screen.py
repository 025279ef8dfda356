"""What a person sees while a sweep runs: live lines on a terminal, elsewhere a line at times."""

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from hydra.core.utils import configure_log
from omegaconf import DictConfig

from hydra_plugins.optuna_study._console.report import SEPARATOR, format_seconds
from hydra_plugins.optuna_study._errors import printable
from hydra_plugins.optuna_study._functions import Redact

# Seconds between two drawings on a terminal, and between two lines elsewhere.
REFRESH_SECONDS = 1.0
PLAIN_SECONDS = 30.0

Describe = Callable[[], Sequence[str]]


class Screen:
    """Lines below the log: what the sweep does, how far it is, and how far its trials are.

    On a terminal they are drawn again each second, and whatever is printed meanwhile goes above
    them. In a file or a pipe the same is one line every half minute.
    """

    def __init__(self, config: DictConfig, redact: Redact) -> None:
        """Prepare the lines.

        Args:
            config: of the sweep, with Hydra's node.
            redact: what is shown goes through it.

        """
        self._config = config
        self._redact = redact
        self._out: TextIO = sys.stdout
        self._is_live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._lock = threading.RLock()
        # What is drawn now; whether the last text that was printed ended in the middle of a line.
        self._drawn: list[str] = []
        self._is_open = False
        self._doing: list[tuple[str, float]] = []
        self._describe: Describe | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the lines up to date, and leave the terminal without them."""
        stop = threading.Event()
        thread = threading.Thread(target=self._refresh, args=(stop,), daemon=True)
        kept = sys.stdout, sys.stderr
        if self._is_live:
            sys.stdout, sys.stderr = (_Above(one, self) if one.isatty() else one for one in kept)
            self._configure_log()
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            if self._is_live:
                with self._lock:
                    self._out.write(self._erasure())
                    self._out.flush()
                sys.stdout, sys.stderr = kept
                self._configure_log()

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show what the sweep itself does meanwhile, and for how long."""
        self._doing.append((what, time.monotonic()))
        try:
            yield
        finally:
            self._doing.pop()

    @contextlib.contextmanager
    def describing(self, describe: Describe) -> Iterator[None]:
        """Show lines that a function returns, which is called in another thread."""
        self._describe = describe
        try:
            yield
        finally:
            self._describe = None

    def refresh(self) -> None:
        """Draw what has changed at once, such as that a trial has ended."""
        if self._is_live:
            # An error of the storage is no reason to end the sweep here.
            with contextlib.suppress(Exception):
                lines = self._lines()
                with self._lock:
                    self._draw(lines)

    def print_above(self, stream: TextIO, text: str) -> int:
        """Print a text, and the lines below it."""
        with self._lock:
            lines = self._drawn
            self._out.write(self._erasure())
            self._out.flush()
            stream.write(text)
            stream.flush()
            self._is_open = not text.endswith("\n") if text else self._is_open
            self._draw(lines)
        return len(text)

    def _refresh(self, stop: threading.Event) -> None:
        plain_at, before = time.monotonic() + PLAIN_SECONDS, ""
        while not stop.wait(REFRESH_SECONDS):
            self.refresh()
            with contextlib.suppress(Exception):
                if not self._is_live and time.monotonic() >= plain_at:
                    text = "; ".join(self._lines())
                    if text and text != before:
                        # Not through the log: a job in this process has its own.
                        self._out.write(f"{text}\n")
                        self._out.flush()
                        plain_at, before = time.monotonic() + PLAIN_SECONDS, text

    def _lines(self) -> list[str]:
        describe, doing = self._describe, self._doing[-1:]
        lines = list(describe()) if describe is not None else []
        for what, since in doing:
            lines.append(f"{what}{SEPARATOR}{format_seconds(time.monotonic() - since)}")
        shown: list[str] = [printable(str(self._redact(line))) for line in lines]
        return shown

    def _erasure(self) -> str:
        """Return what removes the lines, and forget them."""
        number, self._drawn = len(self._drawn), []
        return "\r\x1b[2K" + "\x1b[1A\x1b[2K" * (number - 1) if number else ""

    def _draw(self, lines: Sequence[str]) -> None:
        if self._is_open:
            return
        size = shutil.get_terminal_size()
        cut = [shorten(line, size.columns - 1) for line in lines[: max(size.lines - 2, 1)]]
        # In one piece, so that nothing flickers.
        self._out.write(self._erasure() + "\n".join(cut))
        self._out.flush()
        self._drawn = cut

    def _configure_log(self) -> None:
        # The handlers of the log keep the stream that was there when they were made.
        hydra = self._config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose)


def shorten(line: str, width: int) -> str:
    """Leave out parts at the end of a line until it fits: half a number would be a wrong one."""
    if len(line) <= width:
        return line
    kept, _, _ = line[: width + len(SEPARATOR)].rpartition(SEPARATOR)
    return kept or line[: width - 1] + "…"


class _Above:
    """A stream whose text is printed above the lines of a screen."""

    def __init__(self, stream: TextIO, screen: Screen) -> None:
        self._stream = stream
        self._screen = screen

    def write(self, text: str) -> int:
        return self._screen.print_above(self._stream, text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
