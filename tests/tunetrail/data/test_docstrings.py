"""Questions about docstrings: read without importing, answers where they say, splits apart."""

import pytest

from tunetrail.data.docstrings import _read, load_docstring_questions
from tunetrail.errors import InputError

SOURCE = b'''
def blend(values, axis=None, mode="nearest"):
    """Blend the values.

    More about it.

    Parameters
    ----------
    values : array_like
        The values.
    axis : int, optional
        Along which axis.
    mode : {"nearest", "wrap"}, default: "nearest"
        How.

    Returns
    -------
    blended : ndarray of float
        The result.

    Notes
    -----
    None.
    """

def plain():
    """No parameters."""

def _private(a):
    """Hidden.

    Parameters
    ----------
    a : int
    """
'''


def test_questions_are_asked_of_parameters_and_results() -> None:
    ((name, context, questions),) = _read(SOURCE, "pack.mod")
    assert name == "pack.mod.blend"
    assert context.startswith("Blend the values.\n\nParameters\n")
    assert "More about it" not in context
    assert "Notes" not in context
    asked = {question.text: question.answer for question in questions}
    assert asked == {
        "What type is the parameter values of blend?": "array_like",
        "What type is the parameter axis of blend?": "int",
        "What type is the parameter mode of blend?": '{"nearest", "wrap"}',
        "What is the default of mode in blend?": "nearest",
        "What type does blend return?": "ndarray of float",
    }
    for question in questions:
        end = question.start + len(question.answer)
        assert context[question.start : end] == question.answer


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(InputError, match=r"^data\.distributions: no-such-thing is not installed"):
        load_docstring_questions(distributions=["no-such-thing"])


@pytest.mark.slow
def test_the_real_questions_are_the_same_each_time_and_no_module_is_in_two_splits() -> None:
    rows, again = (load_docstring_questions(distributions=["numpy"]) for _ in range(2))
    assert {name: part.to_dict() for name, part in rows.items()} == {
        name: part.to_dict() for name, part in again.items()
    }
    modules = [module for part in rows.values() for module in {*part["module"]}]
    assert len(set(modules)) == len(modules)
    for part in rows.values():
        for row in part:
            (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
            assert row["context"][start : start + len(text)] == text
