"""Templates of reports: one table layout, safe for any value."""

import jinja2
import pytest

from tunetrail.templates import quote, render, table


def test_a_value_cannot_open_another_cell_a_row_or_a_tag() -> None:
    assert table(["a", "b"], [["x | y \\ z\n\n| 1 |", "<b>`c`"], [None, 0.123456]]) == (
        "| a | b |\n| --- | --- |\n| x \\| y \\\\ z \\| 1 \\| | &lt;b>`c` |\n|  | 0.1235 |"
    )


def test_quoted_text_holds_no_markup_and_is_escaped_once() -> None:
    text = "| <img> `\n# *b* &amp; \\ " + "x" * 500
    (line,) = table([quote(text)], []).splitlines()[:1]
    assert line.startswith(r"| \| \<img\> \` \# \*b\* \&amp; \\ xxx")
    assert line.endswith("x… |")
    assert len(line) < 250


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="verdict"):
        render("rerun", name="n")


def test_empty_sections_leave_one_blank_line() -> None:
    text = render("leakage", summary="s", near="", pairs=[], earlier=[], examples=[])
    assert text.startswith("# Leakage between splits\n\ns.\n\n| held out |")
    assert "\n\n\n" not in text
    assert text.endswith("test.\n")
