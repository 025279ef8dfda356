"""The rows of a run as datasets of MLflow: its Datasets column, its filters and its lineage."""

import json
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from datasets import ClassLabel, Dataset, List, Value
from mlflow.entities import Dataset as LoggedDataset
from mlflow.entities import DatasetInput, InputTag, Run
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from tunetrail.config.paths import locate
from tunetrail.config.record import flatten
from tunetrail.config.secrets import redact
from tunetrail.data.prepare import PreparedData
from tunetrail.templates.names import name_part
from tunetrail.tracking.provenance.fingerprints import SplitFingerprint, shorten
from tunetrail.tracking.run_log import RunLog
from tunetrail.tracking.store import not_vital

# Columns of canonical rows that only this project reads.
_INTERNAL = ("row", "stratum", "group", "answers")
# Types of `datasets` in the words of MLflow's schemas.
_TYPES = {
    "string": "string", "large_string": "string", "bool": "boolean", "int32": "integer",
    "int64": "long", "float32": "float", "float64": "double",
}  # fmt: skip
# MLflow's limits: a longer source or name is refused.
_NAME_LENGTH, _SOURCE_LENGTH = 450, 60_000


def log_datasets(
    run_log: RunLog,
    data: PreparedData,
    fingerprints: Mapping[str, SplitFingerprint],
    config: Mapping[str, Any],
    *,
    splits: Collection[str],
) -> None:
    """Name the rows of some splits as inputs of a run: no row is copied, and none read again.

    The run goes on where MLflow refuses.

    Args:
        run_log: of the run.
        data: its rows.
        fingerprints: of each split; the digest is that of the tags, so one can be searched by the
            other.
        config: as it is recorded.
        splits: which of them the run uses.

    """
    # First: a part of a URL no longer looks like one.
    source = redact(dict(config["data"]))
    inputs: dict[tuple[str, str], DatasetInput] = {}
    for split in data.dataset:
        if split in splits:
            found = _describe(split, data, fingerprints[split], source)
            if (found.name, found.digest) in inputs:
                # MLflow takes one of two with the same name and digest.
                found = _describe(split, data, fingerprints[split], source, f" ({split})")
            context = InputTag(MLFLOW_DATASET_CONTEXT, split)
            inputs[found.name, found.digest] = DatasetInput(found, [context])
    with not_vital("the datasets of the run"):
        run_log.client.log_inputs(run_log.run_id, list(inputs.values()))


def copy_datasets(run_log: RunLog, source: Run) -> None:
    """Name the inputs of another run as those of a run, which goes on where MLflow refuses."""
    inputs = [] if source.inputs is None else source.inputs.dataset_inputs
    with not_vital("the datasets of the run"):
        run_log.client.log_inputs(run_log.run_id, inputs)


def _describe(
    split: str,
    data: PreparedData,
    found: SplitFingerprint,
    config: Mapping[str, Any],
    ending: str = "",
) -> LoggedDataset:
    kind, source = _find_source(split, config["source"], is_read=bool(data.files))
    profile = {"num_rows": found.num_rows}
    # Of an example there is no whole split.
    if split in data.available:
        profile["num_rows_available"] = data.available[split]
    return LoggedDataset(
        name=name_part(config)[:_NAME_LENGTH] + ending,
        digest=shorten(found.sha256),
        source_type=kind,
        source=json.dumps(source)[:_SOURCE_LENGTH],
        schema=json.dumps({"mlflow_colspec": _list_columns(data.dataset[split])}),
        profile=json.dumps(profile),
    )


def _find_source(
    split: str, source: Mapping[str, Any], *, is_read: bool
) -> tuple[str, dict[str, Any]]:
    """Return the type of a source and what MLflow's class of that type reads.

    Args:
        split: which of its splits.
        source: of the config.
        is_read: whether files are known that the rows were read from; of the hub none are.

    """
    path = source.get(split) or source.get("train") or source.get("path")
    flat = flatten(source)
    packages = [
        name
        for key, value in flat.items()
        if "distribution" in key.rpartition(".")[2]
        for name in (value if isinstance(value, list) else [value])
    ]
    if isinstance(path, str) and not packages:
        if is_read or locate(path).exists():
            return "local", {"uri": str(locate(path).resolve())}
        of_hub = {"config_name": source.get("name"), "revision": source.get("revision")}
        theirs = (source.get("splits") or {}).get(split)
        return "hugging_face", {"path": path, "split": theirs, **of_hub}
    versions = {"packages": [f"{name} {_version(str(name))}" for name in packages]}
    return "code", {"tags": {**flat, **versions}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _list_columns(part: Dataset) -> list[dict[str, Any]]:
    return [
        {"name": name, "required": True, **kind}
        for name, feature in part.features.items()
        if name not in _INTERNAL and (kind := _type_of(feature)) is not None
    ]


def _type_of(feature: Any) -> dict[str, Any] | None:
    """Return the type of a column; None where every value is missing."""
    if isinstance(feature, List):
        items = _type_of(feature.feature)
        return None if items is None else {"type": "array", "items": items}
    if isinstance(feature, ClassLabel):
        return {"type": "long"}
    if isinstance(feature, Value):
        return None if feature.dtype == "null" else {"type": _TYPES.get(feature.dtype, "any")}
    return {"type": "any"}
