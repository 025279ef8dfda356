"""The texts of reports: Jinja2 templates, most in Markdown, which Python fills with values."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tunetrail.errors import printable

_MAX_QUOTED, _MAX_CELL = 200, 1000
_MAX_CAPTION = 40


class Quoted(str):
    """Text in which no character is markup."""

    __slots__ = ()


def render(template: str, /, **values: object) -> str:
    """Fill in a template. Several blank lines, as around an empty section, become one."""
    text = _ENVIRONMENT.get_template(f"{template}.md.jinja").render(values)
    return printable(re.sub(r"\n{3,}", "\n\n", text).strip()) + "\n"


def render_html(template: str, /, **values: object) -> str:
    """Fill in a template of HTML: all that is not marked as markup is escaped."""
    return _HTML.get_template(f"{template}.html.jinja").render(values)


def table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """Lay out a Markdown table; any value may stand in a cell."""
    first = [cell(value) for value in header]
    lines = [first, ["---"] * len(first), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    """Write a value as one table cell: None is empty, a float has four significant digits.

    Escaped is what would open another cell, a row or a tag. Other markup stays markup.
    """
    if isinstance(value, Quoted):
        return value
    text = "" if value is None else short(value)
    line = " ".join(text.split())[:_MAX_CELL]
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def quote(text: str) -> Quoted:
    """Fit a text from the data into one table cell: one line, cut, and without any markup."""
    line = " ".join(text.split())
    if len(line) > _MAX_QUOTED:
        line = f"{line[:_MAX_QUOTED]}…"
    return Quoted(re.sub(r"([\\`*_\[\]<>|#&~])", r"\\\1", line))


def caption(text: object, most: int = _MAX_CAPTION) -> str:
    """Fit a name from the data into a figure or a sentence: one line, and cut.

    Args:
        text: such as a label or the name of a run.
        most: characters; longer names leave no room for what they name.

    """
    line = printable(" ".join(str(text).split()))
    if len(line) > most:
        line = f"{line[: most - 1]}…"
    return line


def begin_sentence(line: str) -> str:
    """Let a line of the console begin as a sentence of a page does."""
    return line[:1].upper() + line[1:]


def list_names(names: Sequence[object], most: int = 50) -> list[str]:
    """Return captions of the first names, and how many more there are."""
    shown = [caption(name) for name in names[:most]]
    return [*shown, f"and {len(names) - most:,} more"] if len(names) > most else shown


def short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701 - Markdown; a table escapes its cells
)
_HTML = _ENVIRONMENT.overlay(autoescape=True)
_ENVIRONMENT.globals["table"] = table
_ENVIRONMENT.filters.update(cell=cell, short=short)
