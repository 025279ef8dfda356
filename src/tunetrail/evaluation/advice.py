"""What to try after a run: one sentence, and the change of its config that it means."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tunetrail.config.arguments import require_trainer_values
from tunetrail.config.build import plain
from tunetrail.errors import InputError
from tunetrail.evaluation.fit import Fit, Verdict

# Steps that are enough to see a curve.
_ENOUGH_STEPS = 100
_MOST_WEIGHT_DECAY = 0.3
_LEARNING_RATES = (1e-6, 1e-2)


@dataclass(frozen=True)
class Advice:
    """One sentence, and an override of the run's config; empty where nothing is to be changed."""

    text: str
    override: str = ""

    def __str__(self) -> str:
        return f"{self.text}: try {self.override}" if self.override else self.text


@dataclass(frozen=True)
class Settings:
    """What advice may change of a run.

    Args:
        trainer: the values under ``trainer``.
        sizes: split -> rows that were used.
        available: split -> rows that there are.
        chosen: key of ``data`` -> its value, such as ``num_train``; null uses all rows.
        num_train_sample: rows of train that are measured.

    """

    trainer: Mapping[str, Any]
    sizes: Mapping[str, int]
    available: Mapping[str, int]
    chosen: Mapping[str, Any]
    num_train_sample: int


def read_settings(
    cfg: DictConfig, *, sizes: Mapping[str, int], available: Mapping[str, int]
) -> Settings:
    """Read them from a run's config."""
    names = ("num_train", "num_validation", "per_label", "validation_fraction")
    return Settings(
        trainer=plain(cfg.trainer),
        sizes=sizes,
        available=available,
        chosen={name: OmegaConf.select(cfg, f"data.{name}") for name in names},
        num_train_sample=cfg.diagnostics.num_train_sample,
    )


def advise(fit: Fit, settings: Settings, *, num_steps: int, num_evaluations: int) -> Advice:
    """Say what to try: the first change that the run's own config takes.

    Args:
        fit: of the run.
        settings: of its config.
        num_steps: that it trained.
        num_evaluations: after training began.

    """
    text, changes = _list_changes(fit, settings, num_steps, num_evaluations)
    for key, value in changes:
        if _is_valid(key, value, settings):
            return Advice(text, f"{key}={_write(value)}")
    return Advice(text)


_Changes = Iterator[tuple[str, Any]]


def _list_changes(
    fit: Fit, settings: Settings, num_steps: int, num_evaluations: int
) -> tuple[str, _Changes]:
    """Return what to say of each verdict, and what to try, the best first."""
    nothing: _Changes = iter(())
    if not num_steps:
        what = (
            "" if fit.beats_baseline else ": try another prompt, other examples or a larger model"
        )
        return f"nothing was trained{what}", nothing
    evaluations = f"{num_evaluations} evaluation" + "s" * (num_evaluations > 1)
    times = math.ceil(max(3 / num_evaluations, _ENOUGH_STEPS / num_steps))
    turned = f"validation loss ends {fit.loss_rise:.0%} above its lowest"
    unclear = "the gap" if fit.gap > fit.gap_usual else "the rise of validation loss"
    overfits = {
        True: (turned, _end_at_lowest(fit, settings)),
        False: ("the model knows train better than validation", _narrow_gap(settings)),
    }
    no_better = {
        True: ("what it has learnt of train does not carry over", _narrow_gap(settings)),
        False: ("it has learnt nothing that a baseline does not know", _learn_more(settings)),
    }
    said: dict[Verdict, tuple[str, _Changes]] = {
        Verdict.UNSTABLE: (
            "the loss goes up and down by more than noise",
            _change_rate(settings, 1 / 3),
        ),
        Verdict.OVERFITTING: overfits[fit.has_turned],
        Verdict.NO_BETTER_THAN_BASELINE: no_better[fit.train_beats_baseline],
        Verdict.TOO_SHORT: (
            f"{num_steps} steps and {evaluations} show no curve",
            _lengthen(settings, times),
        ),
        Verdict.UNDERFITTING: (
            f"validation loss still fell by {fit.loss_fall:.0%} at the end",
            _lengthen(settings, 2),
        ),
        Verdict.UNCLEAR: (
            f"{unclear} may be chance, and more rows would tell",
            _measure_more(fit, settings),
        ),
        Verdict.GOOD: ("train and validation move together", nothing),
    }
    return said[fit.verdict]


def _end_at_lowest(fit: Fit, settings: Settings) -> _Changes:
    if fit.lowest.number:
        if settings.trainer["max_steps"] > 0:
            yield "trainer.max_steps", fit.lowest.step
        else:
            yield "trainer.num_train_epochs", fit.lowest.epoch
    yield from _change_rate(settings, 1 / 3)


def _narrow_gap(settings: Settings) -> _Changes:
    wanted, size = settings.chosen["num_train"], settings.sizes["train"]
    if wanted is not None and settings.chosen["per_label"] is None:
        available = settings.available["train"]
        if available > size:
            yield "data.num_train", min(2 * size, available)
    decay = settings.trainer["weight_decay"]
    if decay < _MOST_WEIGHT_DECAY:
        yield "trainer.weight_decay", min(max(5 * decay, 0.05), _MOST_WEIGHT_DECAY)
    yield from _change_rate(settings, 1 / 2)


def _learn_more(settings: Settings) -> _Changes:
    yield from _change_rate(settings, 3)
    yield from _lengthen(settings, 2)


def _lengthen(settings: Settings, times: int) -> _Changes:
    steps = settings.trainer["max_steps"]
    if steps > 0:
        yield "trainer.max_steps", steps * times
    else:
        yield "trainer.num_train_epochs", settings.trainer["num_train_epochs"] * times


def _change_rate(settings: Settings, times: float) -> _Changes:
    rate = float(f"{settings.trainer['learning_rate'] * times:.1g}")
    if _LEARNING_RATES[0] <= rate <= _LEARNING_RATES[1]:
        yield "trainer.learning_rate", rate


def _measure_more(fit: Fit, settings: Settings) -> _Changes:
    """Ask for as many rows as make the noise smaller than what was seen."""
    seen, noise = fit.gap, fit.gap_noise
    if fit.gap <= fit.gap_usual:
        seen, noise = fit.loss_rise, fit.loss_rise_noise or 0.0
    times = max(1.5 * (noise / seen) ** 2, 2.0)
    sizes, available = settings.sizes, settings.available
    validation = (
        "data.num_validation",
        min(math.ceil(times * sizes["validation"]), available["validation"]),
    )
    sample = (
        "diagnostics.num_train_sample",
        min(math.ceil(times * settings.num_train_sample), sizes["train"]),
    )
    both = [validation, sample]
    if fit.gap > fit.gap_usual and settings.num_train_sample < sizes["validation"]:
        both.reverse()
    for key, value in both:
        if key == "data.num_validation" and settings.chosen["num_validation"] is None:
            continue
        now = sizes["validation"] if key == "data.num_validation" else settings.num_train_sample
        if value > now and (key == "data.num_validation" or fit.gap > fit.gap_usual):
            yield key, value
    fraction = settings.chosen["validation_fraction"]
    if fraction is not None and settings.chosen["num_validation"] is None and fraction <= 0.25:
        yield "data.validation_fraction", 2 * fraction


def _is_valid(key: str, value: Any, settings: Settings) -> bool:
    group, _, name = key.partition(".")
    if group != "trainer":
        return True
    values = {**settings.trainer, name: value}
    if values.get("eval_on_start", ...) is None:
        del values["eval_on_start"]  # the task decides
    delay = values.get("eval_delay") or 0
    if name in ("num_train_epochs", "max_steps") and value <= delay:
        return False
    try:
        require_trainer_values(values)
    except InputError:
        return False
    return bool(value != settings.trainer[name])


def _write(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
