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

    ``figures`` maps what a figure shows, in words, to the figure.
    """

    title: str
    sentence: str
    tables: Sequence[Table] = ()
    figures: Sequence[tuple[str, Figure]] = ()
