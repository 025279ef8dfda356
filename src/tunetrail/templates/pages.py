"""Write a page as HTML that holds all that it shows, and as Markdown.

What stands in a page may come from anywhere: texts and names of a data set, a store that others
write to. So no text is markup, a page runs no script and loads nothing, and its size has a limit
whatever there is to show.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from tunetrail.errors import printable
from tunetrail.templates import quote, render, render_html, short, table
from tunetrail.templates.figures import embed
from tunetrail.templates.sections import Fact, Page, Table

Clean = Callable[[str], str]

# Bytes of a page: in all, and what tables, figures, and all that is in no section may take.
MOST_BYTES = 600_000
_MOST_TEXT, _MOST_FIGURES, _REST = 200_000, 300_000, 90_000
# Of one table, so that a long one leaves room for those after it.
_MOST_OF_TABLE = 60_000
_MOST_ROWS_OF_TEXT, _MOST_COLUMNS = 20, 14
_MOST_SECTIONS, _MOST_FACTS, _MOST_FILES = 40, 12, 12
# Characters.
_CELL, _NAME, _SENTENCE, _CODE = 300, 120, 3_000, 2_000
# A text of which the first characters fill a cell, whatever is taken out of them.
_READ = 4
# Marks over a character: a pile of them would cover the lines above.
_PILE = re.compile(
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{3})"
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)
_NUMBER = re.compile(r"[±+-]?[\d,. ]+(?:e[+-]?\d+)?\s?%?(?:\s?\([\d.,]+\s?%\))?")
# From so many characters on a cell is a text to be read, in a wide column; or a few words.
_LONG, _WORDS = 40, 16


@dataclass(frozen=True)
class _Cell:
    text: str
    kind: str


@dataclass(frozen=True)
class _Paragraph:
    parts: Sequence[Markup]
    is_list: bool


class _Room:
    """What is left of the bytes of a page."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, size: int) -> bool:
        """Take some bytes; False if there are not so many."""
        if size > self._left:
            return False
        self._left -= size
        return True


def write_html(page: Page, *, clean: Clean = str, most_rows: int = 50) -> str:
    """Write a page of at most 600 kB that needs nothing but itself.

    What does not fit is left out, and the page says so.

    Args:
        page: whose texts may be anything.
        clean: takes secrets out of each text.
        most_rows: of a table.

    """
    text, figures = _Room(_MOST_TEXT), _Room(_MOST_FIGURES)
    whole, sections = _Room(MOST_BYTES - _REST), []
    for number, section in enumerate(page.sections[:_MOST_SECTIONS], start=1):
        title = _shown(section.title, _NAME, clean)
        html = render_html(
            "section",
            number=number,
            title=title,
            paragraphs=[*_split(_shown(section.sentence, _SENTENCE, clean, lines=True))],
            figures=[_fit_figure(*one, figures, clean) for one in section.figures],
            tables=[_fit_table(one, text, clean, most_rows) for one in section.tables],
            code=_shown(section.code, _CODE, clean, lines=True),
            files=[_shown(name, _NAME, clean) for name in section.files[:_MOST_FILES]],
        )
        if not whole.take(len(html.encode())):
            break
        sections.append({"title": title, "html": Markup(html)})  # noqa: S704 - escaped above
    return render_html(
        "page",
        title=_shown(page.title, _NAME, clean),
        paragraphs=[*_split(_shown(page.sentence, _SENTENCE, clean, lines=True))],
        facts=[_clean_fact(fact, clean) for fact in page.facts[:_MOST_FACTS]],
        sections=sections,
        left_out=[_shown(one.title, _NAME, clean) for one in page.sections[len(sections) :]][:20],
    )


def write_markdown(page: Page, *, clean: Clean = str) -> str:
    """Write the same page for a terminal and for version control; figures are named."""
    room = _Room(_MOST_TEXT)
    return render(
        "page",
        title=_prose(_shown(page.title, _NAME, clean)),
        sentence=_prose(_shown(page.sentence, _SENTENCE, clean, lines=True)),
        facts=[
            [quote(_shown(value, _NAME, clean)) for value in (fact.name, fact.value, fact.note)]
            for fact in page.facts[:_MOST_FACTS]
        ],
        sections=[
            {
                "title": _prose(_shown(one.title, _NAME, clean)),
                "sentence": _prose(_shown(one.sentence, _SENTENCE, clean, lines=True)),
                "tables": [_write_table(part, room, clean) for part in one.tables],
                "code": _shown(one.code, _CODE, clean, lines=True).replace("```", "'''"),
                "files": [
                    _shown(name, _NAME, clean).replace("`", "'") for name in one.files[:_MOST_FILES]
                ],
            }
            for one in page.sections[:_MOST_SECTIONS]
        ],
    )


def _shown(value: object, most: int, clean: Clean, *, lines: bool = False) -> str:
    """Fit a value into a page: no secret, nothing that steers a screen, and no longer than this."""
    text = "" if value is None else short(value)
    is_longer = len(text) > _READ * most
    text = clean(text[: _READ * most])
    kept = [" ".join(line.split()) for line in (text.splitlines() if lines else [text])]
    text = _PILE.sub(r"\1", printable("\n".join(line for line in kept if line)))
    return f"{text[: most - 1]}…" if is_longer or len(text) > most else text


def _clean_fact(fact: Fact, clean: Clean) -> Fact:
    texts = {name: _shown(getattr(fact, name), _NAME, clean) for name in ("name", "value", "note")}
    return replace(fact, **texts)


def _split(text: str) -> Iterator[_Paragraph]:
    """Split a sentence into paragraphs and lists, with what stands in backticks as code."""
    items: list[Markup] = []
    for line in text.splitlines():
        if line.startswith("- "):
            items.append(_mark(line.removeprefix("- ")))
            continue
        if items:
            yield _Paragraph(items, is_list=True)
            items = []
        yield _Paragraph([_mark(line)], is_list=False)
    if items:
        yield _Paragraph(items, is_list=True)


def _mark(line: str) -> Markup:
    parts = line.split("`")
    if len(parts) % 2 == 0:
        return escape(line)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def _fit_figure(name: str, figure: object, room: _Room, clean: Clean) -> dict[str, object]:
    pictures = embed(figure)  # type: ignore[arg-type] # sections hold figures
    fits = room.take(sum(len(uri) for uri, _ in pictures))
    return {"name": _shown(name, _CELL, clean), "pictures": pictures if fits else []}


def _fit_table(part: Table, room: _Room, clean: Clean, most_rows: int) -> dict[str, object]:
    """Lay out as many rows of a table as there is room for."""
    header = [_shown(value, _NAME, clean) for value in part.header[:_MOST_COLUMNS]]
    own = _Room(_MOST_OF_TABLE)
    rows: list[list[_Cell]] = []
    for row in part.rows[:most_rows]:
        cells = [_lay_out(value, clean) for value in row[:_MOST_COLUMNS]]
        size = sum(len(escape(cell.text).encode()) + 24 for cell in cells) + 12
        if any(cell.kind == "t" for cell in cells):
            size += sum(len(escape(name).encode()) + 13 for name in header)
        if not own.take(size) or not room.take(size):
            break
        rows.append(cells)
    for place in range(len(header)):
        column = [row[place] for row in rows if place < len(row)]
        if any(cell.kind != "n" and cell.text for cell in column):
            for row in rows:
                if place < len(row) and row[place].kind == "n":
                    row[place] = replace(row[place], kind="")
    kinds = [
        "n" if any(place < len(row) and row[place].kind == "n" for row in rows) else ""
        for place in range(len(header))
    ]
    return {
        "header": list(zip(header, kinds, strict=True)),
        "rows": rows,
        "caption": _shown(part.caption, _CELL, clean),
        "has_texts": any(cell.kind == "t" for row in rows for cell in row),
        "num_left_out": len(part.rows) - len(rows),
        "num_columns_left_out": len(part.header) - len(header),
    }


def _lay_out(value: object, clean: Clean) -> _Cell:
    text = _shown(value, _CELL, clean)
    if _NUMBER.fullmatch(text):
        return _Cell(text, "n")
    return _Cell(text, "t" if len(text) > _LONG else "m" if len(text) > _WORDS else "")


def _write_table(part: Table, room: _Room, clean: Clean) -> dict[str, object]:
    header = [quote(_shown(value, _NAME, clean)) for value in part.header[:_MOST_COLUMNS]]
    rows: list[list[str]] = []
    for row in part.rows[:_MOST_ROWS_OF_TEXT]:
        cells = [quote(_shown(value, _CELL, clean)) for value in row[:_MOST_COLUMNS]]
        if not room.take(sum(len(cell.encode()) + 3 for cell in cells)):
            break
        rows.append([*cells])
    return {
        "text": table(header, rows),
        "caption": _prose(_shown(part.caption, _CELL, clean)),
        "num_left_out": len(part.rows) - len(rows),
        "num_columns_left_out": len(part.header) - len(header),
    }


def _prose(text: str) -> str:
    """Leave of the markup in a sentence its paragraphs, lists and code."""
    marked = re.sub(r"([\\*\[\]<>|&~])", r"\\\1", text)
    return re.sub(r"\n(?!- )", "\n\n", re.sub(r"(?m)^(#|\d+\.|-(?! ))", r"\\\1", marked))
