"""How the models of a study fit: which trials overfit, and where in the space that happens."""

from typing import Any

from tunetrail.evaluation.baselines import BaselinesReport
from tunetrail.evaluation.fit import FitReport
from tunetrail.training.train import TrainingResult


def note_fit(
    result: TrainingResult, fit: FitReport, baselines: BaselinesReport | None
) -> dict[str, Any]:
    """Return what a trial notes of its run."""
    noted = {
        "verdict": str(fit.verdict),
        "gap": fit.gap,
        "gap_noise": fit.gap_noise,
        "loss_rise": fit.loss_rise,
        "begins_epoch": fit.begins_epoch,
        "epoch": result.evaluations[-1].epoch,
        "stopped_early": result.stopped_early,
    }
    if baselines is not None and baselines.compared:
        best = baselines.compared[0]
        gain = None if best.gain is None else str(best.gain)
        noted |= {"baseline": best.name, "baseline_score": best.score, "gain": gain}
        noted["beats_baseline"] = baselines.beats_best
    return noted
