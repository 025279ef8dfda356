"""What a search was worth: its best point against the default config and the references."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

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


def describe_worth(result: FinalsResult, worths: Sequence[Worth], metric: str) -> list[str]:
    """Say in plain words what the search has bought, the default config first."""
    lines = []
    if result.default is not None and find_searched(result) is None:
        lines.append(
            "The search bought nothing: beside the default config no point of it has a result on "
            "fresh seeds that meets the constraints."
        )
    lines += [_describe(one, metric) for one in worths]
    return lines


def _describe(one: Worth, metric: str) -> str:
    found, known = one.result, one.against.name
    name, low, high = metric.replace("_", " "), found.interval.low, found.interval.high
    searched = one.finalist.was_searched
    what = "The search" if searched else begin_sentence(one.finalist.name)
    if found.is_better:
        said = f"{what} bought {found.difference:+.4f} {name} over {known}"
    elif found.is_worse:
        said = f"{what} bought nothing over {known}, but lost {-found.difference:.4f} {name}"
    else:
        said = f"{what} bought nothing beyond noise over {known}: {found.difference:+.4f} {name}"
    best = f"{one.finalist.name}; " if searched else ""
    seeds = "1 seed" if found.num_seeds == 1 else f"{found.num_seeds} seeds"
    said += (
        f" [{low:+.4f}, {high:+.4f}] ({best}{format_p(found.p_value)}, {found.num_rows:,} rows, "
        f"{seeds})."
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
    seeds = "seed" if power.num_seeds == 1 else "seeds"
    ways = []
    if power.more_seeds is not None:
        total = power.num_seeds + power.more_seeds
        noun = "seed" if power.more_seeds == 1 else "seeds"
        ways.append(f"{power.more_seeds:,} more {noun} (sweep.final_seeds={total})")
    if power.more_rows is not None:
        ways.append(f"{power.more_rows:,} more validation rows")
    if not ways:
        ways = ["four times as many rows and seeds"]
    return (
        f"These {power.num_rows:,} rows and {power.num_seeds} {seeds} show a difference of "
        f"{power.detectable:.4f} four times in five, a smaller one less often; half of it needs "
        f"{' or '.join(ways)}."
    )
