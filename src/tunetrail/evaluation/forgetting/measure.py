"""Measure what a training made its model forget, once the training has ended."""

import contextlib
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

from tunetrail.errors import InputError, one_line
from tunetrail.evaluation.forgetting.measures import BATCH, LENGTH
from tunetrail.evaluation.forgetting.plan import Part, Plan
from tunetrail.evaluation.forgetting.report import (
    Change,
    ForgettingReport,
    NotMeasured,
    advise,
)
from tunetrail.evaluation.forgetting.store import KeptCosts, fingerprint_start
from tunetrail.evaluation.statistics import compare_rows, row_scores
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.tasks.base import Array

log = logging.getLogger(__name__)

_NUM_WORST = 5
_COST = "cost"


@dataclass(frozen=True)
class Training:
    """The training that may have made a model forget.

    Args:
        model: as it is trained, with the weights that are kept.
        checkpoint: what it started from.
        num_tokens: of train, in one epoch.
        num_measured: tokens that an evaluation measures.
        epochs, num_evaluations: that took place; no epoch where nothing was trained.
        learning_rate, best_epoch: for advice.
        dtype: of autocast; None in full precision.

    """

    model: torch.nn.Module
    checkpoint: Checkpoint
    num_tokens: int
    num_measured: int
    epochs: float
    num_evaluations: int
    learning_rate: float
    best_epoch: float
    dtype: torch.dtype | None

    def work(self, *, changes: bool) -> float:
        """Return how many tokens went forward through the body; a step is as long as three passes.

        A body that is not trained reads each row once: models/features.py.
        """
        if changes:
            return 3 * self.num_tokens * self.epochs + self.num_measured * self.num_evaluations
        return (self.num_tokens if self.epochs else 0) + self.num_measured


def measure_forgetting(
    plan: Plan, training: Training, *, cache_dir: Path
) -> ForgettingReport | NotMeasured:
    """Measure a reference with the model as it is, and as it was before training.

    The latter is measured once for the same start. The model, its modes and all random generators
    are as before afterwards.

    Raises:
        InputError: it cannot be measured, and the study needs it.

    """
    reason = plan.reason
    # Of a wrapper, such as peft's, the model inside.
    model = next(m for m in training.model.modules() if isinstance(m, PreTrainedModel))
    for whole in plan.parts:
        selected = whole.measure.select(model)
        changes = training.epochs > 0 and any(p.requires_grad for p in selected.parameters())
        # Once before and once after; what has not changed is measured once.
        allowed = plan.share * training.work(changes=changes) / (2 if changes else 1)
        part = whole.fit(allowed, at_least=plan.is_required)
        if part is None:
            reason = (
                f"{plan.share:.0%} of so short a training (forgetting.share) are {allowed:.0f} "
                "tokens, too few to tell anything from chance"
            )
            continue
        try:
            with _unchanged(training.model), _computing(model, training.dtype):
                found = _measure(part, model, training, changes=changes, cache_dir=cache_dir)
        except Exception as error:
            # Such as a second model that does not fit into memory: the training is worth more.
            log.debug("forgetting", exc_info=True)
            reason = f"{part.measure.title}: {one_line(error, most=200)}"
            continue
        if found is None:
            reason = f"{part.measure.title}: the checkpoint lacks what it needs, such as the head"
        elif not all(np.isfinite(costs).all() for costs in found):
            reason = f"{part.measure.title}: it is no finite number"
        else:
            before, after = found
            return _report(part, training, selected, before, after, changes=changes)
    if plan.is_required:
        raise InputError(f"forgetting/forgotten is an objective or a constraint, and {reason}")
    return NotMeasured(reason)


def _measure(
    part: Part, model: PreTrainedModel, training: Training, *, changes: bool, cache_dir: Path
) -> tuple[Array, Array] | None:
    """Return the costs before and after; None if the start has no such part."""
    measure, checkpoint = part.measure, training.checkpoint
    device = next(model.parameters()).device

    @cache
    def load() -> PreTrainedModel | None:
        start = measure.load(checkpoint)
        if start is not None:
            torch.nn.Module.to(start, device).eval()
        return start

    def load_again() -> PreTrainedModel:
        start = load()
        assert start is not None
        return start

    start = fingerprint_start(checkpoint)
    key = {
        "start": start, "inputs": part.fingerprint(), "measure": type(measure).__name__,
        "batch": (BATCH, LENGTH), "dtype": training.dtype, "device": device.type,
        "flags": (torch.backends.fp32_precision, torch.are_deterministic_algorithms_enabled()),  # type: ignore[attr-defined]
        "threads": torch.get_num_threads(), "torch": torch.__version__,
        "transformers": transformers.__version__,
    }  # fmt: skip
    kept = KeptCosts(cache_dir / "forgetting", key)
    before = None if start is None else kept.read(len(part.windows))
    if before is None:
        if load() is None:
            return None
        before = measure.costs(load_again(), part.windows)
        if start is not None and np.isfinite(before).all():
            kept.write(before)
    if not changes:
        return before, before
    adopted = measure.adopt(model, load_again)
    return None if adopted is None else (before, measure.costs(adopted.eval(), part.windows))


def _report(
    part: Part,
    training: Training,
    selected: torch.nn.Module,
    before: Array,
    after: Array,
    *,
    changes: bool,
) -> ForgettingReport:
    measure = part.measure
    means = [float(_mean(costs.sum(axis=0))[_COST]) for costs in (before, after)]
    rows = [row_scores(costs, _mean, _COST) for costs in (after, before)]
    each = [costs[:, 0] / costs[:, 1] for costs in (before, after)]
    order = np.argsort(each[0] - each[1], kind="stable")
    texts = part.reference.texts
    return ForgettingReport(
        measure=measure.name,
        title=measure.title,
        unit=measure.unit,
        reference=part.reference.name,
        num_rows=len(part.windows),
        num_tokens=part.num_tokens,
        num_left_out=part.num_left_out,
        before=measure.value(means[0]),
        after=measure.value(means[1]),
        forgotten=compare_rows(*rows, seed=0),
        is_trained=changes,
        advice=advise(
            trains_all=all(p.requires_grad for p in selected.parameters()),
            learning_rate=training.learning_rate,
            best_epoch=training.best_epoch,
        ),
        worst=[
            Change(
                texts[part.windows[place]["index"]], float(each[0][place]), float(each[1][place])
            )
            for place in order[:_NUM_WORST]
            if each[1][place] > each[0][place]
        ],
    )


def _mean(sums: Array) -> dict[str, Array]:
    return {_COST: sums[..., 0] / sums[..., 1]}


@contextlib.contextmanager
def _computing(model: PreTrainedModel, dtype: torch.dtype | None) -> Iterator[None]:
    device = next(model.parameters()).device.type
    with torch.no_grad(), torch.autocast(device, dtype=dtype, enabled=dtype is not None):
        yield


@contextlib.contextmanager
def _unchanged(model: torch.nn.Module) -> Iterator[None]:
    """Restore the modes of all modules, and the generators that loading may draw from."""
    modes = [(module, module.training) for module in model.modules()]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002 - as above
            for module, mode in modes:
                module.training = mode
