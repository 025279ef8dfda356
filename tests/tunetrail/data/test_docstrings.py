"""Questions about docstrings: what is asked, answers where they say, splits apart."""

from collections.abc import Callable

import pytest

from tunetrail.data.docstrings import load_docstring_questions

SOURCE = '''
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


def test_questions_are_asked_of_parameters_and_results(
    install: Callable[[str, str], str],
) -> None:
    parts = load_docstring_questions(distributions=[install("small", SOURCE)])
    ((part),) = parts.values()
    (context,) = {*part["context"]}
    assert context.startswith("Blend the values.\n\nParameters\n")
    assert "More about it" not in context
    assert "Notes" not in context
    asked = {row["question"]: row["answers"] for row in part}
    expected = {
        "What is the default of mode in blend?": "nearest",
        "What type is the parameter values of blend?": "array_like",
        "What type is the parameter axis of blend?": "int",
        "What type is the parameter mode of blend?": '{"nearest", "wrap"}',
        "What type does blend return?": "ndarray of float",
    }
    # Four of a function's questions are asked, one for a default among them.
    assert len(asked) == 4
    assert "What is the default of mode in blend?" in asked
    for question, answers in asked.items():
        (answer,), (start,) = answers["text"], answers["answer_start"]
        assert answer == expected[question]
        assert context[start : start + len(answer)] == answer


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
