"""How long texts are: in words, in characters, and in the tokens that a model reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Lengths:
    """Lengths over one split."""

    minimum: int
    median: float
    p95: float
    maximum: int


@dataclass(frozen=True)
class TokenLengths:
    """Tokens of the rows of one split, as the model's tokenizer makes them.

    Args:
        tokens: of a row, those that are cut included; special tokens count.
        num_cut_rows: rows that are longer than what the model reads.
        cut_rows_share: their share of all rows.
        cut_tokens_share: of the tokens of all rows, the share that no model sees.
        num_inputs: what the model reads; more than rows where long ones are read in windows.
        num_windowed_rows: rows that are read in more than one window. Tokens in which windows
            overlap count twice.
        num_left_out: rows of which no input was made.

    """

    tokens: Lengths
    num_cut_rows: int
    cut_rows_share: float
    cut_tokens_share: float
    num_inputs: int
    num_windowed_rows: int
    num_left_out: int


def measure(numbers: Sequence[int] | npt.NDArray[np.int64]) -> Lengths:
    return Lengths(
        minimum=int(np.min(numbers)),
        median=float(np.median(numbers)),
        p95=float(np.percentile(numbers, 95)),
        maximum=int(np.max(numbers)),
    )


def measure_tokens(
    index: npt.NDArray[np.int64],
    read: npt.NDArray[np.int64],
    cut: npt.NDArray[np.int64],
    *,
    num_rows: int,
) -> TokenLengths:
    """Measure the tokens of a split.

    Args:
        index: of each input, the row that it is made of.
        read: of each input, how many tokens the model reads.
        cut: of each input, how many tokens of its row were cut off.
        num_rows: of the split.

    """
    inputs = np.bincount(index, minlength=num_rows)
    lost = np.bincount(index, weights=cut, minlength=num_rows)
    tokens = np.bincount(index, weights=read + cut, minlength=num_rows)
    num_cut = int(np.count_nonzero(lost))
    return TokenLengths(
        tokens=measure(tokens[inputs > 0]),
        num_cut_rows=num_cut,
        cut_rows_share=num_cut / num_rows,
        cut_tokens_share=float(lost.sum() / max(1, tokens.sum())),
        num_inputs=len(index),
        num_windowed_rows=int(np.count_nonzero(inputs > 1)),
        num_left_out=int(np.count_nonzero(inputs == 0)),
    )
