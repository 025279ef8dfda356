"""Labels that are probably wrong, as a table that one can hand to an annotator."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tunetrail.templates import begin_sentence, caption
from tunetrail.templates.sections import Section, Table

Array = npt.NDArray[Any]

LINEAR, TRAINED = "linear model before training", "trained model"
BOTH = "both"
COLUMNS = ("split", "row", "text", "label", "suggested_label", "quality", "found_by")

# Lines of the table, characters of a text in it and of a label, lines on a page.
MOST_LISTED, _MOST_TEXT, _MOST_NAME, _NUM_SHOWN = 2_000, 1_000, 200, 20
# A spreadsheet runs a cell that begins so. The full-width ones are read as the narrow ones.
_FORMULA = re.compile("^[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Judgement:
    """What a model says of the labels of a split; arrays have one entry a row that it has judged.

    Args:
        model: which one.
        split: of the rows.
        rows: their numbers in their source split.
        texts, labels: theirs, as a person reads them.
        suggested: the label that the model would give.
        quality: from 0 to 1, the lower the more likely the label is wrong: for rows with one label
            its probability.
        is_suspect: whether the label is probably wrong.
        num_rows: of the split, rows that were not judged included.

    """

    model: str
    split: str
    rows: Array
    texts: Sequence[str]
    labels: Sequence[str]
    suggested: Sequence[str]
    quality: Array
    is_suspect: Array
    num_rows: int


@dataclass(frozen=True)
class SuspectReport:
    """What models say of the labels; ``notes`` say what was not judged, and why."""

    judgements: tuple[Judgement, ...]
    notes: tuple[str, ...]

    def add(self, other: "SuspectReport") -> "SuspectReport":
        """Add what another model says."""
        return replace(
            self,
            judgements=self.judgements + other.judgements,
            notes=tuple(dict.fromkeys(self.notes + other.notes)),
        )

    @property
    def num_suspects(self) -> int:
        """Rows whose label a model thinks wrong."""
        return len(self._find())

    def summary(self) -> str:
        """Say in one line how many labels are suspect, by which model."""
        found: dict[str, list[str]] = {}
        for one in self.judgements:
            number = f"{int(one.is_suspect.sum()):,} of {len(one.rows):,} in {one.split}"
            found.setdefault(one.model, []).append(number)
        said = [f"suspect by the {name}: {', '.join(parts)}" for name, parts in found.items()]
        return "; ".join([*said, *self.notes]) or "no labels to judge"

    def tabulate(self) -> pd.DataFrame:
        """List the suspects, worst first, a line each; of very many the worst ones.

        ``quality`` is the mean over the models that judged the row.
        """
        lines = [
            (
                split,
                row,
                caption(one.texts[place], _MOST_TEXT),
                caption(one.labels[place], _MOST_NAME),
                caption(one.suggested[place], _MOST_NAME),
                quality,
                found_by,
            )
            for (split, row), (one, place, quality, found_by) in self._find().items()
        ]
        frame = pd.DataFrame(lines, columns=list(COLUMNS))
        frame = frame.sort_values(["quality", "split", "row"], ignore_index=True)[:MOST_LISTED]
        return frame.assign(quality=frame["quality"].astype(float).round(4))

    def _find(self) -> dict[tuple[str, int], tuple[Judgement, int, float, str]]:
        """Map each suspect to what says so last, its place there, its quality and who found it."""
        qualities: dict[tuple[str, int], list[float]] = {}
        finders: dict[tuple[str, int], list[str]] = {}
        places: dict[tuple[str, int], tuple[Judgement, int]] = {}
        for one in self.judgements:
            suspects = {int(row) for row in one.rows[one.is_suspect]}
            for place, row in enumerate(one.rows.tolist()):
                key = (one.split, row)
                qualities.setdefault(key, []).append(float(one.quality[place]))
                if row in suspects:
                    finders.setdefault(key, []).append(one.model)
                    places[key] = (one, place)
        return {
            key: (
                *places[key],
                float(np.mean(qualities[key])),
                names[0] if len(names) < 2 else BOTH,
            )
            for key, names in finders.items()
        }

    def to_dict(self) -> dict[str, Any]:
        judged = [
            {
                "model": one.model,
                "split": one.split,
                "num_rows": one.num_rows,
                "num_judged": len(one.rows),
                "num_suspects": int(one.is_suspect.sum()),
            }
            for one in self.judgements
        ]
        return {"summary": self.summary(), "judged": judged, "notes": list(self.notes)}

    def section(self) -> Section:
        """Offer what was found for the page of the run."""
        frame = self.tabulate()
        sentence = (
            f"{self.summary()}. A suspect is a suggestion: a person must decide; "
            "tunetrail labels RUN_ID writes them all as a table."
        )
        shown = frame[:_NUM_SHOWN].itertuples(index=False)
        table = Table(COLUMNS, [tuple(line) for line in shown], caption="the most doubtful labels")
        return Section(
            "Labels that are probably wrong",
            begin_sentence(sentence),
            [table] if len(frame) else [],
        )


def write_suspects(frame: pd.DataFrame) -> str:
    """Write a table of suspects as CSV that a spreadsheet can open: no cell of it is a formula.

    An apostrophe goes before what would be one (OWASP, CSV injection).
    """
    texts = {name: frame[name].map(defuse) for name in ("text", "label", "suggested_label")}
    text: str = frame.assign(**texts).to_csv(index=False, lineterminator="\n")
    return text


def defuse(value: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would run; a number is none."""
    is_formula = bool(_FORMULA.match(value)) and not _NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value
