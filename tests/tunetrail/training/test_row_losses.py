"""The losses of rows that a run keeps, and finds again when it is resumed."""

from pathlib import Path

import numpy as np
import pytest

from tunetrail.training import row_losses
from tunetrail.training.row_losses import RowLosses

SPLITS = ("train", "validation")


def losses(step: int) -> np.ndarray:
    return np.full((3, 2), step, dtype=np.float32)


def test_the_lowest_evaluation_and_the_last_two_are_kept_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more evaluations than are kept every second one is dropped."""
    monkeypatch.setattr(row_losses, "_MOST_EVALUATIONS", 4)
    means = {10: 0.9, 20: 0.4, 30: 0.6, 40: 0.7, 50: 0.5, 60: 0.4, 70: 0.6}
    at_once, resumed = RowLosses(), RowLosses()
    resumed.untuned = np.arange(6).reshape(3, 2)
    kept = []
    for step, mean in means.items():
        for split in SPLITS:
            at_once.add(split, step, mean, losses(step))
            resumed.add(split, step, mean, losses(step))
        resumed.save(tmp_path / str(step))
        resumed = RowLosses.load(tmp_path / str(step))
        for split in SPLITS:
            found = resumed.by_split[split]
            assert [*found] == [*at_once.by_split[split]]
            assert all((rows == losses(step)).all() for step, rows in found.items())
        assert resumed.untuned is not None
        assert resumed.untuned.tolist() == [[0, 1], [2, 3], [4, 5]]
        kept.append([*found])
    # Of equal ones, at 20 and at 60, the first is the lowest.
    assert kept[3:] == [
        [10, 20, 30, 40],
        [10, 20, 30, 40, 50],
        [10, 20, 30, 50, 60],
        [10, 20, 30, 60, 70],
    ]


def test_of_many_rows_a_part_is_kept_that_is_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_losses, "_MOST_ROWS", 3)
    found = RowLosses()
    found.add("train", 10, 0.5, np.arange(10).reshape(5, 2))
    assert found.by_split["train"][10][:, 0].tolist() == [0, 4, 8]


def test_a_checkpoint_without_losses_gives_none(tmp_path: Path) -> None:
    assert RowLosses.load(tmp_path).by_split == {}
