"""Markdown that stays intact whatever a text holds."""

from collections.abc import Iterable, Sequence

_MOST_CHARACTERS = 200


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; cells must hold no line end and no bare bar."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def quote_text(text: str) -> str:
    """Fit a text from the data into one cell: one line, cut, and nothing in it is markup."""
    line = " ".join(text.split())
    if len(line) > _MOST_CHARACTERS:
        line = f"{line[:_MOST_CHARACTERS]}…"
    for character in "\\`*_[]<>|#&~":
        line = line.replace(character, f"\\{character}")
    return line
