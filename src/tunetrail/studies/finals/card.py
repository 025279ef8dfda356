"""The model card of a winner: what it was made from, how good it is, and where its limits are."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from tunetrail.data.prepare import PreparedData
from tunetrail.studies.finals.conclusion import Conclusion
from tunetrail.studies.finals.report import describe_comparison, list_scores
from tunetrail.templates import list_names, render
from tunetrail.tracking.provenance.fingerprints import SplitFingerprint

# What the hub reads. Where Markdown is shown it would be a heading of its own.
_HEADER = "---\nlibrary_name: transformers\npipeline_tag: {}\n---\n\n"
_TRAINER_KEYS = (
    "learning_rate", "per_device_train_batch_size", "num_train_epochs", "weight_decay",
    "lr_scheduler_type", "warmup_steps",
)  # fmt: skip

# Metrics of the run of a classifier.
_ERROR, _TEMPERATURE = "calibration/ece", "calibration/temperature"
# What names the weights, whatever kind of source they have; a package has a path, too.
_NAMES_OF_MODEL = ("id", "distribution", "path", "run_id")


def write_card(
    conclusion: Conclusion,
    *,
    name: str,
    config: Mapping[str, Any],
    data: PreparedData | None,
    trains: bool,
    limits: Sequence[str],
    fingerprints: Mapping[str, SplitFingerprint],
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
) -> str:
    """Write the card as Markdown, without the header that the hub reads.

    Args:
        name: of the registered model, or of the study.
        config: that the run of the weights recorded.
        data: None where it could not be read again.
        trains: whether the method of the run does.
        limits: of any model of its task.
        fingerprints: of the splits as they were used.
        tags, metrics: of the run.

    """
    calibrated = config.get("calibrate") is True and metrics.get(_TEMPERATURE, 1.0) != 1
    source = config["data"]["source"]
    return render(
        "model_card",
        name=name,
        conclusion=conclusion,
        config=config,
        data=data,
        trains=trains,
        limits=limits,
        tags=tags,
        source={
            key: value
            for key, value in source.items()
            if value is not None and key not in ("_target_", "_convert_")
        },
        data_licence=_licence(source),
        splits=[
            [split, f"{found.num_rows:,}", f"`{found.sha256[:16]}`"]
            for split, found in fingerprints.items()
        ],
        labels=[]
        if data is None
        else list_names(data.dataset["train"].features["answers"].feature.names),
        params=[
            [f"`{key}`", f"`{value}`"]
            for key, value in _params(conclusion, config, trains=trains).items()
        ],
        scores=", ".join(f"{value:.4f}" for value in conclusion.winner.scores),
        test_scores=list_scores(conclusion.test),
        verdicts=[describe_comparison(one, conclusion.gain) for one in conclusion.comparisons],
        calibrated=calibrated,
        calibration=_describe_calibration(metrics, calibrated=calibrated),
    )


def _describe_calibration(metrics: Mapping[str, float], *, calibrated: bool) -> str:
    """Say what the run has measured of its probabilities; empty if it has not."""
    if _ERROR not in metrics:
        return ""
    before, chance = metrics[_ERROR], metrics.get(f"{_ERROR}_of_calibrated", 0.0)
    said = f"expected calibration error {before:.3f} (a calibrated model: {chance:.3f})"
    if not calibrated:
        return f"{said}; its logits are divided by no temperature"
    own, others = (metrics.get(f"{_ERROR}_{name}fitted", 0.0) for name in ("", "cross_"))
    return (
        f"{said}; its logits are divided by {metrics[_TEMPERATURE]:.3f}, fitted on these rows, "
        f"which gives {own:.3f} on them, and {others:.3f} on rows that it was not fitted on"
    )


def add_header(card: str, *, pipeline_tag: str) -> str:
    """Put the header that the hub reads above a card; ``pipeline_tag`` is the hub's word."""
    return _HEADER.format(pipeline_tag) + card


def _licence(source: Mapping[str, Any]) -> str:
    """Return what the package that holds something states: its files may have another licence."""
    try:
        about = metadata(source["distribution"])
    except (KeyError, PackageNotFoundError):
        return "not known here"
    (stated, *_) = about.get_all("License-Expression") or about.get_all("License") or [""]
    # Some packages put the whole text there.
    return stated.strip().partition("\n")[0] or "not stated by its package"


def _params(conclusion: Conclusion, config: Mapping[str, Any], *, trains: bool) -> dict[str, Any]:
    source, trainer = config["model"]["source"], config["trainer"] if trains else {}
    return {
        "model": next(filter(None, map(source.get, _NAMES_OF_MODEL)), None),
        "licence of the model's package": _licence(source),
        "method": config["method"]["name"],
        "training_seed": config["training_seed"],
        "precision": config["precision"],
        **{f"task.{key}": value for key, value in config["task"].items() if key != "_target_"},
        **{f"trainer.{key}": trainer[key] for key in _TRAINER_KEYS if key in trainer},
        **conclusion.winner.params,
    }
