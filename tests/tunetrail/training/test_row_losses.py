"""The losses of rows that a run keeps, and finds again when it is resumed."""

from pathlib import Path

import numpy as np

from tunetrail.training.row_losses import RowLosses


def losses(step: int) -> np.ndarray:
    return np.full((2, 3), step, dtype=np.float32)


def test_the_lowest_evaluation_and_the_last_two_are_kept_over_a_restart(tmp_path: Path) -> None:
    means = {10: 0.9, 20: 0.4, 30: 0.6, 40: 0.7, 50: 0.5, 60: 0.4, 70: 0.3}
    at_once, resumed = RowLosses(), RowLosses()
    kept = []
    for step, mean in means.items():
        at_once.add(step, mean, losses(step))
        resumed.add(step, mean, losses(step))
        resumed.save(tmp_path / str(step))
        resumed = RowLosses.load(tmp_path / str(step))
        assert [*resumed.by_step] == [*at_once.by_step]
        assert all((found == losses(step)).all() for step, found in resumed.by_step.items())
        kept.append([*resumed.by_step])
    # Of equal ones, at 20 and at 60, the first is the lowest.
    assert kept[2:] == [[20, 30], [20, 30, 40], [20, 40, 50], [20, 50, 60], [60, 70]]


def test_a_checkpoint_without_losses_gives_none(tmp_path: Path) -> None:
    assert RowLosses.load(tmp_path).by_step == {}
