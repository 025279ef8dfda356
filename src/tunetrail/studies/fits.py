"""How the models of a study fit: which trials overfit, and where in the space that happens."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study import attributes
from tunetrail.data.columns import count_of
from tunetrail.evaluation.baselines import BaselinesReport
from tunetrail.evaluation.fit import FitReport, Verdict
from tunetrail.studies.curves import spread_axis
from tunetrail.studies.ranking import find_best
from tunetrail.studies.states import number_of
from tunetrail.templates import short
from tunetrail.training.train import TrainingResult

# Okabe and Ito's colours, and a shape each for those who see no colours.
_MARKS = {
    Verdict.GOOD: ("#009E73", "o"),
    Verdict.OVERFITTING: ("#D55E00", "^"),
    Verdict.UNDERFITTING: ("#0072B2", "v"),
    Verdict.UNSTABLE: ("#CC79A7", "X"),
    Verdict.NO_BETTER_THAN_BASELINE: ("#000000", "s"),
    Verdict.TOO_SHORT: ("#56B4E9", "P"),
    Verdict.UNCLEAR: ("#999999", "D"),
    Verdict.UNTRAINED: ("#E69F00", "*"),
}
# Where in the space trials overfit is said if drawn verdicts have so clear an edge this seldom.
_CHANCE = 0.05
_NUM_DRAWS = 2_000
# With fewer trials on either side no edge is beyond chance.
_FEWEST = 3
_MOST_EDGES = 200
_TRAINING = ("trainer.learning_rate", "trainer.num_train_epochs")


def note_fit(
    result: TrainingResult, fit: FitReport, baselines: BaselinesReport | None
) -> dict[str, Any]:
    """Return what a trial notes of its run."""
    noted = {
        "verdict": str(fit.verdict),
        "gap": fit.gap,
        "loss_rise": fit.loss_rise,
        "begins_epoch": fit.begins_epoch,
        "epoch": result.evaluations[-1].epoch,
        "stopped_early": result.stopped_early,
    }
    if baselines is not None and baselines.compared:
        noted |= {"beats_baseline": baselines.beats_best, "against_baseline": baselines.line()}
    return noted


@dataclass(frozen=True)
class TrialFit:
    """How the runs of a trial fit; ``verdict`` is that of most of them."""

    trial: FrozenTrial
    verdict: Verdict
    runs: Sequence[Mapping[str, Any]]

    @property
    def gap(self) -> float:
        """The mean gap of the main metric over the runs."""
        return float(np.mean([run["gap"] for run in self.runs]))

    @property
    def loss_rise(self) -> float:
        """The mean rise of validation loss above its lowest, as a share."""
        return float(np.mean([run["loss_rise"] for run in self.runs]))

    @property
    def begins(self) -> str:
        """The epochs at which overfitting begins in its runs."""
        found = [run["begins_epoch"] for run in self.runs if run["begins_epoch"] is not None]
        return ", ".join(dict.fromkeys(f"{epoch:.3g}" for epoch in found))


def list_fits(study: optuna.Study) -> list[TrialFit]:
    """List how the complete trials fit, those that reuse another's values left out."""
    found = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        runs = trial.user_attrs.get(attributes.FITS)
        if runs and attributes.REUSED_FROM not in trial.user_attrs:
            ((verdict, _),) = Counter(run["verdict"] for run in runs).most_common(1)
            found.append(TrialFit(trial, Verdict(verdict), runs))
    return found


def describe_stop(trial: FrozenTrial) -> str:
    """Say that early stopping ended the runs of a trial; empty if it did not."""
    runs = trial.user_attrs.get(attributes.FITS, ())
    ended = [f"{run['epoch']:g}" for run in runs if run["stopped_early"]]
    return f"stopped early at epoch {', '.join(ended)}" if ended else ""


def describe_fits(study: optuna.Study) -> list[str]:
    """Say in a few sentences how the trials fit, and how the best stands against its baseline.

    Where in the space trials overfit is said only if chance would hardly show so clear an edge.
    """
    fits = list_fits(study)
    if not fits:
        return []
    counts = Counter(str(fit.verdict) for fit in fits)
    shown = ", ".join(f"{number} {verdict}" for verdict, number in counts.most_common())
    said = [f"Of {count_of(len(fits), 'trial')}: {shown}"]
    where = find_where(fits)
    if where is not None:
        said.append(where)
    best = find_best(study)
    for fit in fits:
        if best is not None and fit.trial.number == best.number:
            lines = [run["against_baseline"] for run in fit.runs if "against_baseline" in run]
            several = f", by its last of {len(fit.runs)} runs" if len(fit.runs) > 1 else ""
            said += [f"Trial {number_of(best)}, the best{several}: {line}" for line in lines[-1:]]
    return said


@dataclass(frozen=True)
class _Edge:
    """Trials from a value of a parameter on, or up to it."""

    name: str
    value: float
    is_from: bool
    inside: np.ndarray[Any, Any]

    def __str__(self) -> str:
        return f"{'from' if self.is_from else 'up to'} {self.name}={short(self.value)}"


def find_where(fits: Sequence[TrialFit]) -> str | None:
    """Say where in the space trials overfit; None where that may be chance.

    Each value of each number that was searched is tried as an edge, of learning rate times epochs,
    too, and the clearest one is taken:
    the one with the largest difference of the shares of overfitting trials on both sides, in
    standard errors. Chance is what verdicts that are dealt out at random show for their clearest.
    """
    overfit = np.array([fit.verdict is Verdict.OVERFITTING for fit in fits])
    edges = list(_list_edges([fit.trial for fit in fits]))
    if not edges or overfit.all() or not overfit.any():
        return None
    inside = np.stack([edge.inside for edge in edges]).astype(float)
    clear = _clarity(inside, overfit[None].astype(float))[0]
    draw = np.random.default_rng(0)
    dealt = draw.permuted(np.tile(overfit, (_NUM_DRAWS, 1)), axis=1).astype(float)
    reached = int((_clarity(inside, dealt).max(axis=1) >= clear.max() - 1e-9).sum())
    chance = (reached + 1) / (_NUM_DRAWS + 1)
    if chance > _CHANCE:
        return None
    edge = edges[int(clear.argmax())]
    there, rest = overfit[edge.inside], overfit[~edge.inside]
    p = "p < 0.001" if chance < 0.001 else f"p = {chance:.3f}"
    return (
        f"Overfitting in {overfit.sum()} of {count_of(len(fits), 'trial')}: {edge} in "
        f"{there.sum()} of {len(there)}, elsewhere in {rest.sum()} of {len(rest)} "
        f"({p}, all edges counted)"
    )


def _list_edges(trials: Sequence[FrozenTrial]) -> Iterator[_Edge]:
    numbers: dict[str, np.ndarray[Any, Any]] = {}
    for name in dict.fromkeys(name for trial in trials for name in trial.params):
        values = [attributes.params_of(trial).get(name) for trial in trials]
        if all(_is_number(value) for value in values):
            numbers[name] = np.array(values, dtype=float)
    if {*_TRAINING} <= numbers.keys():
        # How far a training goes depends on both: steps, and the size of each.
        numbers[" x ".join(_TRAINING)] = np.prod([numbers[name] for name in _TRAINING], axis=0)
    for name, found in numbers.items():
        distinct = np.unique(found)[1:]
        step = max(1, len(distinct) // _MOST_EDGES)
        for value in distinct[::step]:
            inside = found >= value
            if min(inside.sum(), (~inside).sum()) >= _FEWEST:
                yield _Edge(name, float(value), True, inside)
                yield _Edge(name, float(found[~inside].max()), False, ~inside)


def _clarity(inside: np.ndarray[Any, Any], overfit: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return how much more often trials overfit inside, in standard errors; (draws, edges)."""
    sizes, number = inside.sum(axis=1), inside.shape[1]
    there = overfit @ inside.T
    total = overfit.sum(axis=1, keepdims=True)
    share = total / number
    error = np.sqrt(share * (1 - share) * (1 / sizes + 1 / (number - sizes)))
    found: np.ndarray[Any, Any] = (there / sizes - (total - there) / (number - sizes)) / error
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def plot_fits(fits: Sequence[TrialFit]) -> Figure | None:
    """Draw the verdicts of trials over the two numbers that vary most, and the gap of each.

    None without a number that was searched, or a trial that trained.
    """
    fits = [fit for fit in fits if any(run["epoch"] for run in fit.runs)]
    names = _choose_axes([fit.trial for fit in fits])
    if not names:
        return None
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()
    x = [float(attributes.params_of(fit.trial)[names[0]]) for fit in fits]
    y = [
        float(attributes.params_of(fit.trial)[names[1]]) if len(names) > 1 else fit.gap
        for fit in fits
    ]
    gaps = np.array([abs(fit.gap) for fit in fits])
    sizes = 40 + 260 * gaps / max(gaps.max(), 1e-9)
    verdicts = np.array([str(fit.verdict) for fit in fits])
    for verdict, (colour, shape) in _MARKS.items():
        (own,) = np.nonzero(verdicts == str(verdict))
        places = ([x[i] for i in own], [y[i] for i in own])
        axes.scatter(*places, s=sizes[own], c=colour, marker=shape, alpha=0.75, linewidths=0)
    spread_axis(axes, x)
    axes.margins(0.08)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1] if len(names) > 1 else "gap of the main metric")
    counts = Counter(fit.verdict for fit in fits)
    axes.legend(
        handles=[
            Line2D([], [], color=_MARKS[verdict][0], marker=_MARKS[verdict][1], linestyle="",
                   label=f"{verdict} ({number})")
            for verdict, number in counts.most_common()
        ],
        frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5),
    )  # fmt: skip
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Verdicts of the trials (size: gap between train and validation)")
    return figure


def _choose_axes(trials: Iterable[FrozenTrial]) -> list[str]:
    """Choose two numbers that every trial has: those with most different values first."""
    found = [attributes.params_of(trial) for trial in trials]
    names = dict.fromkeys(name for params in found for name in params)
    kinds = {
        name: len({params[name] for params in found})
        for name in names
        if all(_is_number(params.get(name)) for params in found)
    }
    varying = [name for name in kinds if kinds[name] > 1]
    # Where the learning rate and the length of training were searched they say most.
    known = (*_TRAINING, "trainer.max_steps")
    return sorted(varying, key=lambda name: (name not in known, -kinds[name]))[:2]
