"""How the bytes of a table are read: what a person can set where a file does not say it."""

import re
from dataclasses import dataclass

from tunetrail.errors import InputError


@dataclass(frozen=True)
class Reading:
    r"""Settings of a reader.

    Args:
        encoding: of the text.
        encoding_errors: as ``errors`` of ``open``, but "strict" reads bytes that cannot be decoded
            as lone surrogates: they cost their row, not the file.
        delimiter: between the fields of CSV and TSV; None: the format's own.
        escaped_quotes: whether quotes inside of a quoted field are written as \" beside "".
        is_command: whether the command line sets these, not the config.

    Raises:
        InputError: the delimiter is no single character that can be one.

    """

    encoding: str = "utf-8"
    encoding_errors: str = "strict"
    delimiter: str | None = None
    escaped_quotes: bool = False
    is_command: bool = False

    def __post_init__(self) -> None:
        given: object = self.delimiter
        is_one = isinstance(given, str) and len(given) == 1 and given not in '"\r\n\\'
        if given is not None and not is_one:
            key = "--delimiter " if self.is_command else "data.delimiter="
            raise InputError(
                f"{key}{given!r}: must be one character and no quote, backslash or line end; for "
                f"tabs {self.remedy('format', 'tsv')}"
            )

    def remedy(self, name: str, value: str) -> str:
        """Say what to type so that a setting has a value."""
        is_plain = re.fullmatch(r"[\w-]+", value) is not None
        if self.is_command:
            value = value if is_plain else f"'{value}'"
            return f"give --{name.replace('_', '-')} {value}".removesuffix(" true")
        return f"set data.{name}={value}" if is_plain else f"set \"data.{name}='{value}'\""


# UTF-8, with the delimiter of the format.
DEFAULT = Reading()
