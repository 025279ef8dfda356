"""The parts of a page for people, as those who measure something hand them over."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table of a page; what stands in its cells is shortened and escaped by the page."""

    header: Sequence[object]
    rows: Sequence[Sequence[object]]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """What was measured or checked: a heading, what was found in one sentence, and what shows it.

    ``figures`` maps what a figure shows, in words, to the figure. In a sentence a line end begins a
    new paragraph, one after which ``- `` stands an item of a list; `` `…` `` marks code. ``files``
    are artifacts of the run that hold more, figures among them; ``code`` is lines to be typed.
    """

    title: str
    sentence: str
    tables: Sequence[Table] = ()
    figures: Sequence[tuple[str, Figure]] = ()
    files: Sequence[str] = ()
    code: str = ""


@dataclass(frozen=True)
class Fact:
    """A number at the top of a page, and a note on it; ``tone`` is good, bad or empty."""

    name: str
    value: object
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Page:
    """A page for people: a title, a sentence, facts, and sections."""

    title: str
    sentence: str
    facts: Sequence[Fact]
    sections: Sequence[Section]
