"""Scores of each label by itself, from how often it is true, predicted, and both."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[Any]


def divide(part: Array, whole: Array) -> Array:
    """Divide, with 0 for 0 / 0."""
    quotient: Array = np.divide(part, whole, out=np.zeros(np.shape(part)), where=whole > 0)
    return quotient


def score_labels(
    names: Sequence[str], true: Array, predicted: Array, right: Array, *, count: str
) -> pd.DataFrame:
    """Return a line a label; its column ``count`` says how often the label is there."""
    return pd.DataFrame(
        {
            "label": names,
            count: true.astype(int),
            "precision": divide(right, predicted),
            "recall": divide(right, true),
            "f1": divide(2 * right, true + predicted),
        }
    )
