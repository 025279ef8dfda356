"""What a search was worth: its best point against the default config and the references."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from tunetrail.data.columns import count_of
from tunetrail.evaluation.power import Power
from tunetrail.evaluation.statistics import PairedTest, format_p
from tunetrail.studies.finals.finalists import Finalist, FinalsResult
from tunetrail.templates import begin_sentence
from tunetrail.tracking.run_log import RunSummary

_SECONDS = "speed/seconds"


@dataclass(frozen=True)
class Worth:
    """A finalist against the default config or a reference, on the same rows.

    ``seconds`` are those of a training of each of the two, if their runs say so.
    """

    finalist: Finalist
    against: Finalist
    result: PairedTest
    power: Power | None
    seconds: tuple[float, float] | None


def list_pairs(result: FinalsResult) -> list[tuple[Finalist, Finalist]]:
    """List what is compared: the best of the search with the default, the winner with the rest."""
    winner, found = result.winner, find_searched(result)
    pairs = []
    for known in (result.default, *result.references):
        if known is None:
            continue
        # The default config is what the search has to beat, also where it has won.
        best = found if known is result.default or known is winner else winner
        if best is not None:
            pairs.append((best, known))
    return pairs


def find_searched(result: FinalsResult) -> Finalist | None:
    """Find the best point of the search among the finalists."""
    return next((o for o in result.finalists if o.was_searched and o.meets_constraints), None)


def mean_seconds(runs: Sequence[RunSummary]) -> float | None:
    """Return the mean seconds of a training, with its evaluations."""
    found = [run.metrics[_SECONDS] for run in runs if _SECONDS in run.metrics]
    return fmean(found) if found else None


def name_gain(metric: str, *, greater_is_better: bool) -> str:
    """Name a gain, which is above 0 where the one is better, whichever way the metric runs."""
    direction = "" if greater_is_better else " (lower is better)"
    return f"gain in {metric.replace('_', ' ')}{direction}"


def describe_worth(
    result: FinalsResult, worths: Sequence[Worth], metric: str, *, greater_is_better: bool
) -> list[str]:
    """Say in plain words what the search has bought, the default config first.

    Args:
        result: of the finals.
        worths: what was compared.
        metric: main metric of the task, which rows are compared by. If it is not all that was
            searched for, a comparison is no verdict on the search.
        greater_is_better: its direction.

    """
    lines = []
    if result.default is not None and find_searched(result) is None:
        lines.append(
            "The search bought nothing: beside the default config no point of it has a result on "
            "fresh seeds that meets the constraints."
        )
    gain = name_gain(metric, greater_is_better=greater_is_better)
    for one in worths:
        judged = _judge(one)
        if result.objectives != (f"validation/{metric}",):
            judged = _compare(one, result.objectives, metric)
        lines.append(f"{judged}: {gain} {_describe(one)}")
    return lines


def describe_verdict(found: PairedTest, against: str) -> str:
    """Say whether one is better than something else on the same rows."""
    if not (found.is_better or found.is_worse):
        return f"no different from {against} beyond noise"
    return f"{'better' if found.is_better else 'worse'} than {against} by more than noise"


def _judge(one: Worth) -> str:
    found, known = one.result, one.against.name
    what = "The search" if one.finalist.was_searched else begin_sentence(one.finalist.name)
    if found.is_better:
        return f"{what} bought more than noise over {known}"
    if found.is_worse:
        mine = "What the search found" if one.finalist.was_searched else what
        return f"{mine} is {describe_verdict(found, known)}"
    return f"{what} bought nothing beyond noise over {known}"


def _compare(one: Worth, objectives: Sequence[str], metric: str) -> str:
    """Say what was searched for, and what its rows can say: no verdict on the search."""
    mine, known = one.finalist, one.against
    scores = [" and ".join(f"{v:.4f}" for v in (o.mean, *o.others)) for o in (mine, known)]
    return (
        f"The search was for {' and '.join(objectives)}: {mine.name} has {scores[0]}, "
        f"{known.name} {scores[1]}. In {metric.replace('_', ' ')}, by which rows are compared, "
        f"{mine.name} is {describe_verdict(one.result, known.name)}"
    )


def _describe(one: Worth) -> str:
    found, best = one.result, f"{one.finalist.name}; " if one.finalist.was_searched else ""
    low, high = found.interval.low, found.interval.high
    said = (
        f"{found.difference:+.4f} [{low:+.4f}, {high:+.4f}] ({best}{format_p(found.p_value)}, "
        f"{found.num_rows:,} rows, {count_of(found.num_seeds, 'seed')})."
    )
    said += _describe_seconds(one)
    if not (found.is_better or found.is_worse) and one.power is not None:
        said += f" {_describe_power(one.power)}"
    return said


def _describe_seconds(one: Worth) -> str:
    if one.seconds is None:
        return ""
    mine, known = one.seconds
    return f" A training takes {mine:.0f} s instead of {known:.0f} s ({mine - known:+.0f} s)."


def _describe_power(power: Power) -> str:
    ways = []
    if power.more_seeds is not None:
        total = power.num_seeds + power.more_seeds
        ways.append(f"{count_of(power.more_seeds, 'more seed')} (sweep.final_seeds={total})")
    if power.more_rows is not None:
        ways.append(count_of(power.more_rows, "more validation row"))
    if not ways:
        ways = ["four times as many rows and seeds"]
    return (
        f"These {power.num_rows:,} rows and {count_of(power.num_seeds, 'seed')} show a difference "
        f"of {power.detectable:.4f} four times in five, a smaller one less often; half of it needs "
        f"{' or '.join(ways)}."
    )
