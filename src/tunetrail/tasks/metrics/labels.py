"""Scores of each label by itself, from how often it is true, predicted, and both."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[Any]
# Lines in a table of confusions: a person reads the first ones.
_MOST_CONFUSIONS = 200


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


def list_confusions(
    targets: Sequence[str], predictions: Sequence[str], *, count: str
) -> pd.DataFrame:
    """Count each target that is taken for something else, the most frequent confusions first."""
    pairs = pd.DataFrame({"target": targets, "prediction": predictions})
    totals = pairs["target"].value_counts()
    wrong = pairs[pairs["target"] != pairs["prediction"]]
    found = wrong.value_counts(["target", "prediction"]).reset_index(name=count)
    found = found.sort_values(
        [count, "target", "prediction"], ascending=[False, True, True], ignore_index=True
    ).head(_MOST_CONFUSIONS)
    return found.assign(share=found[count] / found["target"].map(totals).to_numpy())
