"""Read the reports that are written in Markdown, for a page."""

from collections.abc import Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tunetrail.templates.sections import Section, Table


def read_sections(text: str) -> list[Section]:
    """Read what stands under each heading: paragraphs, lists and tables, without other markup.

    Links, pictures and tags are no markup here, whatever a report holds: it may come from a store
    that others write to. What stands before the first heading belongs to a section without title.
    """
    # By default nothing is markup.
    parser = MarkdownIt("zero").enable(
        ["heading", "list", "table", "fence", "backticks", "emphasis", "escape", "entity"]
    )
    found: list[tuple[str, list[str], list[Table], list[str]]] = [("", [], [], [])]
    tokens = parser.parse(text)
    place, in_list = 0, 0
    while place < len(tokens):
        token = tokens[place]
        _, lines, tables, code = found[-1]
        if token.type == "heading_open":
            found.append((_plain(tokens[place + 1]), [], [], []))
            place += 1
        elif token.type == "table_open":
            end = next(n for n in range(place, len(tokens)) if tokens[n].type == "table_close")
            tables.append(_read_table(tokens[place:end]))
            place = end
        elif token.type in ("list_item_open", "list_item_close"):
            in_list += 1 if token.type == "list_item_open" else -1
        elif token.type == "fence":
            code.append(token.content.rstrip("\n"))
        elif token.type == "inline":
            lines.append(("- " if in_list else "") + _plain(token))
        place += 1
    return [
        Section(title, "\n".join(lines), tables=tables, code="\n".join(code))
        for title, lines, tables, code in found
        if title or lines or tables
    ]


def _read_table(tokens: Sequence[Token]) -> Table:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_plain(token).replace("`", ""))
    return Table(rows[0], rows[1:])


def _plain(token: Token) -> str:
    """Return the text of a line; code stays between its backticks."""
    parts = []
    for child in token.children or ():
        if child.type == "code_inline":
            parts.append(f"`{child.content}`")
        elif child.type == "softbreak":
            parts.append(" ")
        else:
            parts.append(child.content)
    return "".join(parts)
