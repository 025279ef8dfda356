"""A page is inert, holds all that it shows, and has a limit, whatever there is to show."""

import warnings

import numpy as np
import pandas as pd
import pytest
from audits import audit
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from tunetrail.config.secrets import redact
from tunetrail.evaluation.plots import plot_learning_curves
from tunetrail.tasks.plots import plot_confusion_matrix
from tunetrail.templates.figures import draw, embed
from tunetrail.templates.markdown import read_sections
from tunetrail.templates.pages import MOST_BYTES, write_html, write_markdown
from tunetrail.templates.sections import Fact, Page, Section, Table

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=http://e.vil/x onerror=alert(1)>",
    '"><svg onload=alert(1)><a href="https://e.vil">x</a>',
    "</title></style><style>body{background:url(http://e.vil)}</style>",
    "<meta http-equiv=refresh content='0;url=http://e.vil'>",
    "<iframe src=//e.vil></iframe><base href=//e.vil><link rel=stylesheet href=//e.vil>",
    "![x](http://e.vil/y.png) [y](javascript:alert(1)) <http://e.vil> `<b>`",
    "{{ 7 * 7 }} {% raw %} ${x} @figure@",
    "</td></tr></table></section></main>",
    "\u202etxet sdrawkcab\u2066 \u200f \ud800 \x00 \x1b[31m",
    "שלום עולם مرحبا بالعالم",
    "é" + "\u0301" * 200,
    "😀" * 5_000,
    "word" * 250_000,
    "- a list\n- of\n# two | cells ```\n| x |",
]


NAMES = [f"{HOSTILE[n % 9]} {n} " + "long " * 60 for n in range(400)]


@pytest.fixture(scope="module")
def matrix() -> Figure:
    """Of 400 labels, on a page as large as a figure can be."""
    draws = np.random.default_rng(0)
    targets, predictions = (pd.Series(draws.choice(NAMES, 2000)) for _ in range(2))
    return plot_confusion_matrix(targets, predictions, NAMES, split="validation")


def make_hostile_page(names: list[str], figures: list[tuple[str, Figure]]) -> Page:
    rows = [[n, HOSTILE[n % len(HOSTILE)], name, 0.5] for n, name in enumerate(names)]
    tables = [Table(HOSTILE, [[*HOSTILE]] * 300, HOSTILE[0]), Table(["n", "a", "b", "c"], rows)]
    section = Section(HOSTILE[3], "\n".join(HOSTILE), tables, figures, HOSTILE, HOSTILE[0])
    facts = [Fact(text, text, text) for text in HOSTILE]
    return Page(HOSTILE[0], HOSTILE[1], facts, [section] * 20)


def test_hostile_texts_are_inert_and_the_page_stays_bounded(matrix: Figure) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        html = write_html(make_hostile_page(NAMES, [(HOSTILE[1], matrix)]), clean=redact)
    found = audit(html)
    assert 100_000 < len(html.encode()) <= MOST_BYTES
    assert "<script>alert(1)</script>" in found.text
    assert "Left out here: " in found.text
    assert "The page would be too large with" in found.text
    # What steers a screen is written out.
    assert r"\u202etxet" in found.text
    assert r"\x00" in found.text
    assert "7 * 7" in found.text
    assert "שלום" in found.text
    assert "\u0301" * 3 in found.text
    assert "\u0301" * 4 not in found.text


def test_figures_that_do_not_fit_are_named(matrix: Figure) -> None:
    sections = [Section(f"part {n}", "", figures=[(f"shows {n}", matrix)]) for n in range(9)]
    found = audit(html := write_html(Page("t", "", [], sections)))
    assert len(html.encode()) <= MOST_BYTES
    assert found.headings == [f"part {n}" for n in range(9)]
    assert "shows 8: left out, the page would be too large." in found.text
    assert "shows 0: left out" not in found.text


def test_markdown_has_no_markup_of_the_data_either() -> None:
    text = write_markdown(make_hostile_page(NAMES[:30], []), clean=redact)
    assert len(text.encode()) < MOST_BYTES
    parsed = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    kinds = {token.type for token in parsed}
    kinds |= {child.type for token in parsed for child in token.children or ()}
    assert "table_open" in kinds
    assert not kinds & {"html_block", "html_inline", "image", "link_open"}


def test_secrets_do_not_stand_in_a_page() -> None:
    secret = "hf_" + "a1B2" * 8
    page = Page("t", f"token={secret}", [Fact("a", secret)], [Section("s", secret, code=secret)])
    assert secret not in write_html(page, clean=redact)
    assert secret not in write_markdown(page, clean=redact)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_page_with_little_in_it_is_whole(count: int) -> None:
    sections = [Section(f"part {n}", "", [Table([], []), Table(["a"], [])]) for n in range(count)]
    found = audit(write_html(Page("", "", [], sections)))
    assert found.headings == [f"part {n}" for n in range(count)]


def test_numbers_stand_right_and_texts_left() -> None:
    rows = [["a", 1, "12 (3.5%)"], ["b", None, "0"], ["c", 0.25, "1,000"]]
    html = write_html(Page("t", "", [], [Section("s", "x", [Table(["k", "v", "w"], rows)])]))
    assert '<td class="n" dir="auto">1</td>' in html
    assert '<th class="n" dir="auto">v</th>' in html
    assert '<th dir="auto">k</th>' in html


def test_a_figure_is_drawn_once_and_panels_beside_each_other_are_cut() -> None:
    curves = {"loss": ([1.0, 0.5], [1.0, 0.7]), "accuracy": ([0.5, 0.9], [0.5, 0.8])}
    figure = plot_learning_curves([1, 2], curves, best_epoch=2, title="t")
    assert draw(figure) is draw(figure)
    pictures = embed(figure)
    assert len(pictures) == 2
    assert all(len(uri) < 40_000 and 700 < width < 900 for uri, width in pictures)


def test_a_report_in_markdown_becomes_sections_without_markup() -> None:
    text = (
        "# Study <b>x</b>\n\nwords **bold** `code` [l](http://e.vil) ![i](//e.vil) <script>\n\n"
        "- one\n- two\n\n## Best: a & b\n\n| a | b \\| c |\n| --- | --- |\n| `x` | &lt;img> |\n"
    )
    head, best = read_sections(text)
    assert head.title == "Study <b>x</b>"
    assert head.sentence.splitlines()[1:] == ["- one", "- two"]
    assert best.title == "Best: a & b"
    assert (best.tables[0].header, best.tables[0].rows) == (["a", "b | c"], [["x", "<img>"]])
    audit(write_html(Page(head.title, head.sentence, [], [best])))
