"""Lines of a byte stream, numbered, of bounded length, that may be given back."""

import codecs
from typing import IO

from tunetrail.errors import InputError

# A longer line is not read into memory.
MAX_LINE_BYTES = 1 << 24


class LineTooLongError(Exception):
    """A line is longer than any that is read; it was passed over."""


class Lines:
    """Iterate over decoded lines, ends included; bytes that are no UTF-8 become surrogates.

    ``number`` is that of the line last given, from 1.

    Raises:
        LineTooLongError: by ``next``, which may be called again for the line after it.
        InputError: the stream is UTF-16, or breaks off as no whole gzip file does.

    """

    def __init__(self, stream: IO[bytes], *, name: str) -> None:
        self._stream = stream
        self._name = name
        self._given_back: list[str] = []
        self.number = 0

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        self.number += 1
        if self._given_back:
            return self._given_back.pop()
        line = self._read()
        if self.number == 1:
            line = self._without_mark(line)
        if not line:
            self.number -= 1
            raise StopIteration
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = self._read()
            raise LineTooLongError(f"the line is longer than {MAX_LINE_BYTES >> 20} MiB")
        return line.decode("utf-8", errors="surrogateescape")

    def give_back(self, lines: list[str]) -> None:
        """Take the last lines back, to give them again."""
        self._given_back.extend(reversed(lines))
        self.number -= len(lines)

    def _read(self) -> bytes:
        try:
            return self._stream.readline(MAX_LINE_BYTES + 1)
        except (OSError, EOFError) as error:
            raise InputError(f"{self._name} cannot be read to its end: {error}") from error

    def _without_mark(self, line: bytes) -> bytes:
        if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{self._name} is UTF-16; convert it to UTF-8 (iconv -t UTF-8)")
        return line.removeprefix(codecs.BOM_UTF8)
