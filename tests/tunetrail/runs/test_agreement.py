"""How far the numbers of two runs agree."""

import math

from tunetrail.runs.agreement import Agreement, RerunVerdict, check_agreement, format_verdict

BASE = {
    "train/loss": {1: 1.0, 2: 0.5},
    "gap/loss": {1: 1e-9, 2: -0.01},
    "best/loss": {0: 0.5},
}


def compare(
    rerun: dict[str, dict[int, float]],
    original: dict[str, dict[int, float]] | None = None,
    *,
    tolerance: float = 1e-2,
    has_ended_early: bool = False,
) -> Agreement:
    return check_agreement(
        original or BASE, rerun, tolerance=tolerance, has_ended_early=has_ended_early
    )


def test_equal_numbers_are_bit_identical_and_counted() -> None:
    found = compare(BASE)
    assert found.verdict is RerunVerdict.BIT_IDENTICAL
    assert format_verdict(found, [], so_far="") == "bit-identical: 5 values of 3 metrics"
    with_note = format_verdict(found, ["threads changed (1 -> 2)"], so_far="")
    assert with_note.endswith(", although threads changed (1 -> 2)")


def test_one_bit_is_a_difference() -> None:
    found = compare({**BASE, "train/loss": {1: 1.0, 2: math.nextafter(0.5, 1)}})
    assert found.verdict is RerunVerdict.WITHIN_TOLERANCE
    assert found.largest is not None
    assert (found.largest.metric, found.largest.step) == ("train/loss", 2)
    line = format_verdict(found, ["threads changed (num_threads 1 -> 2)"], so_far="")
    assert line == (
        "within tolerance: largest difference 1.1e-16 (1.1e-16 of its scale) in train/loss at "
        "step 2, 1 of 5 values differ, because threads changed (num_threads 1 -> 2)"
    )


def test_a_gap_near_zero_is_measured_on_the_scale_of_its_family() -> None:
    """A hundred times as large, and still small against losses of 1."""
    found = compare({**BASE, "gap/loss": {1: 1e-7, 2: -0.01}})
    assert found.verdict is RerunVerdict.WITHIN_TOLERANCE


def test_the_first_step_beyond_the_tolerance_is_named_and_the_end_comes_last() -> None:
    found = compare(
        {"train/loss": {1: 1.001, 2: 0.6}, "gap/loss": BASE["gap/loss"], "best/loss": {0: 0.6}}
    )
    assert found.verdict is RerunVerdict.DIVERGED
    line = format_verdict(found, ["data changed (train)"], so_far="")
    assert line == (
        "diverged at step 2 (train/loss 0.5 -> 0.6, differing from step 1 on), because data "
        "changed (train)"
    )
    only_best = compare({**BASE, "best/loss": {0: 0.6}})
    assert format_verdict(only_best, [], so_far="").startswith("diverged at the end (best/loss")


def test_without_a_known_reason_none_is_given() -> None:
    line = format_verdict(compare({**BASE, "best/loss": {0: 0.6}}), [], so_far="")
    assert "because" not in line
    assert "trainer.full_determinism=true" in line


def test_a_value_on_one_side_only_is_a_divergence() -> None:
    for rerun in ({**BASE, "train/loss": {1: 1.0}}, {**BASE, "more": {1: 1.0}}):
        assert compare(rerun).verdict is RerunVerdict.DIVERGED
    found = compare({**BASE, "train/loss": {1: 1.0}})
    assert "train/loss 0.5 -> missing" in format_verdict(found, [], so_far="")


def test_an_original_that_ended_early_is_compared_as_far_as_it_went() -> None:
    longer = {**BASE, "train/loss": {**BASE["train/loss"], 3: 0.4}, "test/loss": {0: 1.0}}
    assert compare(longer).verdict is RerunVerdict.DIVERGED
    found = compare(longer, has_ended_early=True)
    assert found.verdict is RerunVerdict.BIT_IDENTICAL
    assert format_verdict(found, [], so_far="so far").endswith("3 metrics; so far")
    # what it has must be there
    short = {"train/loss": {1: 1.0}}
    assert compare(short, has_ended_early=True).verdict is RerunVerdict.DIVERGED


def test_nan_is_nan_and_zero_has_no_scale() -> None:
    original = {"a": {1: math.nan}, "b": {1: 0.0}}
    assert compare(original, original).verdict is RerunVerdict.BIT_IDENTICAL
    assert compare({**original, "a": {1: 1.0}}, original).verdict is RerunVerdict.DIVERGED
    assert compare({**original, "b": {1: 1e-30}}, original).verdict is RerunVerdict.DIVERGED
    assert compare({**original, "b": {1: -0.0}}, original).verdict is RerunVerdict.WITHIN_TOLERANCE
