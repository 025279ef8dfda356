"""Summaries and questions from sources: which docstrings and signatures become rows."""

from collections.abc import Callable

import pytest

from tunetrail.data.documentation import load_pairs, load_questions, load_summaries
from tunetrail.errors import InputError

SOURCE = '''
"""The module says nothing of itself."""

raise RuntimeError("it is parsed, not imported")

def fit(data, *, rate=0.1, steps=-1, names=None, kind=list, table={}):
    """Fit a small model
    to the data.

    All rows are read once.
    """

class Head:
    """Hold the weights of a head.

    They are small.
    """

    def __init__(self, width, bias=True, scale=None):
        pass

    def again(self):
        """Hold the weights of a head.

        This summary was read before.
        """

    def _inner(self):
        """Do something inside.

        Not for users.
        """

def filled():
    """Return the mean of it.

    It is filled from %(name)s.
    """

def long():
    """Return a long story of it.

    {}
    """

def two():
    """Do one thing. Do another thing.

    Two sentences are no summary.
    """
'''


@pytest.fixture
def package(install: Callable[[str, str], str]) -> str:
    return install("small", SOURCE.replace("{}\n", "A word. " * 20 + "\n"))


def test_the_body_is_the_prompt_and_the_summary_completes_it(package: str) -> None:
    rows = load_summaries(distributions=[package], max_characters=100)["train"]
    assert list(zip(rows["source"], rows["prompt"], rows["completion"], strict=True)) == [
        ("small.fit", "All rows are read once.", "Fit a small model to the data."),
        ("small.Head", "They are small.", "Hold the weights of a head."),
    ]
    assert [*rows.info.download_checksums] == ["small 1.0"]


def test_every_other_body_has_the_summary_of_another(package: str) -> None:
    rows = load_pairs(distributions=[package], max_characters=100)["train"]
    fit, head = "Fit a small model to the data.", "Hold the weights of a head."
    assert list(zip(rows["summary"], rows["body"], rows["label"], strict=True)) == [
        (fit, "All rows are read once.", "own"),
        (fit, "They are small.", "other"),
    ]
    assert head not in rows["summary"]


def test_a_question_has_its_answer_in_the_signature(package: str) -> None:
    rows = load_questions(distributions=[package], max_characters=200)["train"]
    assert rows["source"][:] == ["small.fit", "small.Head"]
    for prompt, answer in zip(rows["prompt"], rows["completion"], strict=True):
        signature, summary, question = prompt.split("\n")
        name = question.removeprefix("What is the default of ").removesuffix("?")
        assert f"{name}={answer}" in signature
        assert name not in {"kind", "table"}
        assert summary.endswith(".")
    assert rows["prompt"][1].startswith("Head(width, bias=True, scale=None)\n")
    assert len(load_questions(distributions=[package], max_characters=105)["train"]) == 1


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(InputError, match=r"^data\.source\.distributions: no-such is not installed"):
        load_summaries(distributions=["no-such"], max_characters=10)
