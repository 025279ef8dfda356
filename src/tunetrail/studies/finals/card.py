"""The model card of a winner: what it was made from, how good it is, and what it is not for."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from tunetrail.data.prepare import PreparedData
from tunetrail.data.reporting import markdown_table
from tunetrail.studies.finals.conclusion import Conclusion
from tunetrail.studies.finals.report import explain_verdicts, list_params, list_verdicts
from tunetrail.tracking.provenance import SplitFingerprint


def write_card(
    conclusion: Conclusion,
    *,
    name: str,
    pipeline_tag: str,
    config: Mapping[str, Any],
    data: PreparedData | None,
    fingerprints: Mapping[str, SplitFingerprint],
    tags: Mapping[str, str],
) -> str:
    """Write the card as Markdown under the header that the hub reads.

    Args:
        name: of the registered model, or of the study.
        pipeline_tag: the task, as the hub calls it.
        config: that the run of the weights recorded.
        data: None where it could not be read again.
        fingerprints: of the splits as they were used.
        tags: of the run.

    """
    from huggingface_hub import ModelCard, ModelCardData

    header = ModelCardData(library_name="transformers", pipeline_tag=pipeline_tag)
    blocks = [
        [f"# {name}"],
        [_summary(conclusion, config)],
        *_data(config, data, fingerprints),
        *_training(conclusion, config, tags),
        *_results(conclusion, tags),
        *_limits(conclusion, config, data),
        *_use(conclusion),
    ]
    text = "\n\n".join("\n".join(lines) for lines in blocks if lines)
    return str(ModelCard(f"---\n{header.to_yaml()}\n---\n\n{text}\n"))


def without_header(card: str) -> str:
    """Leave out what the hub reads: where Markdown is shown it would be a heading of its own."""
    from huggingface_hub import ModelCard

    return str(ModelCard(card).text).strip()


def _summary(conclusion: Conclusion, config: Mapping[str, Any]) -> str:
    return (
        f"`{config['model']['name']}` trained on `{config['data']['name']}`: "
        f"{conclusion.winner.name}, the winner of a study. Its MLflow run `{conclusion.run_id}` "
        "holds config, data fingerprints, environment, metrics and every prediction."
    )


def _data(
    config: Mapping[str, Any],
    data: PreparedData | None,
    fingerprints: Mapping[str, SplitFingerprint],
) -> list[list[str]]:
    if data is None:
        return [["## Data"], ["It could not be read again when this card was written."]]
    source = {key: value for key, value in config["data"]["source"].items() if key != "_target_"}
    kept = {key: value for key, value in source.items() if value is not None and key != "_convert_"}
    rows = [
        [split, f"{found.num_rows:,}", f"`{found.sha256[:16]}`"]
        for split, found in fingerprints.items()
    ]
    labels = data.dataset["train"].features["stratum"].names
    found = [
        f"- {what}: {'not checked' if report is None else report.summary()}"
        for what, report in (("quality", data.quality), ("leakage", data.leakage))
    ]
    return [
        ["## Data"],
        [f"Source: {', '.join(f'{key} `{value}`' for key, value in kept.items())}."],
        [f"Licence, as the package that it came in states it: {_licence(source)}."],
        markdown_table(["split", "rows", "SHA-256 of the rows, first digits"], rows),
        [f"Labels: {', '.join(f'`{label}`' for label in labels)}."],
        found,
    ]


def _licence(source: Mapping[str, Any]) -> str:
    """Say what the package that something came in states: the files in it may have another."""
    try:
        about = metadata(source["distribution"])
    except (KeyError, PackageNotFoundError):
        return "not known here"
    (stated, *_) = about.get_all("License-Expression") or about.get_all("License") or [""]
    # Some packages put the whole text there.
    return stated.strip().partition("\n")[0] or "not stated by its package"


def _training(
    conclusion: Conclusion, config: Mapping[str, Any], tags: Mapping[str, str]
) -> list[list[str]]:
    source = config["model"]["source"]
    base = source.get("id") or source.get("distribution") or source.get("path")
    chosen = {
        "model": base,
        "licence of the model's package": _licence(source),
        "method": config["method"]["name"],
        "training_seed": config["training_seed"],
        "precision": config["precision"],
        "task.max_length": config["task"]["max_length"],
        **{
            f"trainer.{key}": config["trainer"][key]
            for key in ("learning_rate", "per_device_train_batch_size", "num_train_epochs",
                        "weight_decay", "lr_scheduler_type", "warmup_steps")
            if key in config["trainer"]
        },
        **conclusion.winner.params,
    }  # fmt: skip
    code = tags.get("tunetrail.commit", "no commit")
    changed = " with uncommitted changes" if tags.get("tunetrail.dirty") == "True" else ""
    return [["## Training"], list_params(chosen), [f"Code: `{code}`{changed}."]]


def _results(conclusion: Conclusion, tags: Mapping[str, str]) -> list[list[str]]:
    winner, test = conclusion.winner, conclusion.test
    values = ", ".join(f"{value:.4f}" for value in winner.scores)
    lines = [f"- {conclusion.field.objective} on fresh seeds: {values}"]
    if "tunetrail.verdict" in tags:
        lines.append(f"- fit: {tags['tunetrail.verdict']}")
    blocks = [["## Results"], lines]
    if test is not None:
        rows = [
            [name.replace("_", " "), f"{test.metrics[name]:.4f}", str(interval)]
            for name, interval in test.intervals.items()
        ]
        blocks.append(markdown_table([f"test, {test.num_rows:,} rows", "score", "95 %"], rows))
    if winner.is_default:
        blocks.append(["The winner is the default config: the search has found nothing better."])
    if conclusion.comparisons:
        blocks += [
            list_verdicts(conclusion.comparisons),
            [explain_verdicts(conclusion.main_metric)],
        ]
    return blocks


def _limits(
    conclusion: Conclusion, config: Mapping[str, Any], data: PreparedData | None
) -> list[list[str]]:
    length = config["task"]["max_length"]
    name = config["data"]["name"]
    limits = [
        f"It has seen texts of `{name}` alone; no other language, domain or time was measured.",
        f"Texts are cut after {length} tokens: what comes later is not read.",
    ]
    if data is not None:
        names = data.dataset["train"].features["stratum"].names
        limits.append(
            f"Every text gets one of {len(names)} labels, also one that deserves none of them."
        )
        if data.leakage is not None and data.leakage.problems:
            limits.append(
                f"Scores are flattered by rows that are not held out: {data.leakage.summary()}."
            )
        if data.quality is not None and data.quality.problems:
            limits.append(f"Rows with faults were learnt and measured: {data.quality.summary()}.")
    limits += _confidence(conclusion)
    if conclusion.num_looks > 1:
        limits.append(f"The test split was looked at {conclusion.num_looks} times by this study.")
    limits += list(conclusion.notes)
    return [["## Limits"], [f"- {limit}" for limit in limits]]


def _confidence(conclusion: Conclusion) -> list[str]:
    test, metric = conclusion.test, conclusion.main_metric
    if test is None:
        return [
            "It was never measured on rows that nothing was chosen by. Its calibration is unknown."
        ]
    if test.mean_confidence is None:
        return []
    means = f"{test.mean_confidence:.3f} on average, its {metric} {test.metrics[metric]:.3f}"
    return [f"Its probabilities are not calibrated: on test its confidence is {means}."]


def _use(conclusion: Conclusion) -> list[list[str]]:
    found = conclusion.registered
    again = f"tunetrail rerun {conclusion.run_id}"
    if found is None:
        lines = [f"tunetrail predict {conclusion.run_id} 'a text'", again]
    else:
        lines = [
            f"tunetrail predict {found.name}/{found.version} 'a text'",
            f"mlflow models serve -m 'models:/{found.name}/{found.version}' --env-manager local",
            again,
        ]
    return [["## Use it from its store, and run it again"], ["```", *lines, "```"]]
