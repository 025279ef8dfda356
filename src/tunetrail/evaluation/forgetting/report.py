"""What a model forgot, in numbers and in a sentence."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from tunetrail.evaluation.statistics import PairedTest
from tunetrail.templates import begin_sentence
from tunetrail.templates.sections import Section, Table

# Less is not worth a word, however certain it is: 1 % of a perplexity, a hundredth of accuracy.
LEAST = 0.01


class Verdict(StrEnum):
    """Whether the mean cost on the reference has changed by more than noise, and which way."""

    FORGOT = "forgot"
    KEPT = "kept"
    IMPROVED = "improved"


@dataclass(frozen=True)
class Change:
    """A text of the reference, and what it cost before and after."""

    text: str
    before: float
    after: float


@dataclass(frozen=True)
class ForgettingReport:
    """A reference before and after tuning.

    ``before`` and ``after`` are what people know, such as a perplexity. ``forgotten`` is the rise
    of the mean cost (``unit``: nats a token, accuracy): more is worse, whatever is measured.
    """

    measure: str
    title: str
    unit: str
    reference: str
    num_rows: int
    num_tokens: int
    num_left_out: int
    before: float
    after: float
    forgotten: PairedTest
    is_trained: bool
    advice: str
    worst: Sequence[Change]

    @property
    def verdict(self) -> Verdict:
        lost = self.forgotten
        if lost.is_better and lost.difference >= LEAST:
            return Verdict.FORGOT
        if lost.is_worse and -lost.difference >= LEAST:
            return Verdict.IMPROVED
        return Verdict.KEPT

    def line(self) -> str:
        """Return the verdict in one line, with its numbers and what to try."""
        digits = ".1f" if self.before > 1 else ".3f"
        change = f"{self.title} {self.before:{digits}} before, {self.after:{digits}} after"
        if self.is_trained:
            lost, interval = self.forgotten.difference, self.forgotten.interval
            change += f" (cost {lost:+.3f} {self.unit} [{interval.low:+.3f}, {interval.high:+.3f}])"
            note = self.advice if self.verdict is Verdict.FORGOT else ""
        else:
            note = "nothing that is measured was trained"
        where = f"{self.reference}, {self.num_rows} texts"
        return f"{self.verdict}: {change} on {where}" + (f"; {note}" if note else "")

    def metrics(self) -> dict[str, float]:
        """Name the numbers as MLflow holds them."""
        return {
            f"forgetting/{self.measure}_before": self.before,
            f"forgetting/{self.measure}_after": self.after,
            "forgetting/forgotten": self.forgotten.difference,
            "forgetting/forgotten_low": self.forgotten.interval.low,
            "forgetting/forgotten_high": self.forgotten.interval.high,
        }

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": str(self.verdict), "line": self.line()}

    def section(self) -> Section:
        """Offer it for the page of a run."""
        numbers = Table(
            ["", "before", "after"],
            [[self.title, self.before, self.after]],
            caption=f"{self.reference}: {self.num_rows} texts, {self.num_tokens:,} tokens",
        )
        worst = Table(
            ["text", "before", "after"],
            [[change.text, change.before, change.after] for change in self.worst],
            caption=f"texts that lost most (cost of each: {_COSTS[self.unit]})",
        )
        return Section(
            "What the model forgot",
            f"{begin_sentence(self.line())}.",
            [numbers, *([worst] if self.worst else [])],
        )


_COSTS = {"nats a token": "loss in nats a token", "accuracy": "1 where the probe is wrong"}


@dataclass(frozen=True)
class NotMeasured:
    """Why forgetting was not measured."""

    reason: str

    def line(self) -> str:
        return f"not measured: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        return {"verdict": None, "line": self.line()}

    def metrics(self) -> dict[str, float]:
        return {}

    def section(self) -> Section:
        return Section("What the model forgot", f"{self.line().capitalize()}.")


def advise(*, trains_all: bool, learning_rate: float, best_epoch: float) -> str:
    """Say what to try against forgetting, with keys and values.

    Args:
        trains_all: whether every weight of the body was trained.
        learning_rate: of the training.
        best_epoch: of the weights that are kept.

    """
    ways = [f"trainer.learning_rate={learning_rate / 3:.1g}"]
    if trains_all:
        ways.insert(0, "method=lora")
    if best_epoch > 1:
        ways.append(f"trainer.num_train_epochs={max(1, int(best_epoch) - 1)}")
    return f"try {' or '.join(ways)}"
