"""Names of runs for people: short, bounded, and read only to name another run alike."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from tunetrail.templates import caption

# Before the name of what won: the first characters are those that a narrow column shows.
WINNER = "★ "
_BETWEEN = " · "
# Characters of a value, and of a whole name: MLflow's column holds 250.
_MOST_OF_VALUE, _MOST = 24, 120
# Usual keys by their last part, as people say them; {} is the value.
_SHORT = {
    "learning_rate": "lr {}",
    "per_device_train_batch_size": "bs {}",
    "gradient_accumulation_steps": "accumulate {}",
    "num_train_epochs": "{} ep",
    "max_steps": "{} steps",
    "weight_decay": "wd {}",
    "warmup_steps": "warm-up {}",
    "lr_scheduler_type": "{}",
    "label_smoothing_factor": "smoothing {}",
}
# Names of configs that read anything: what they read says more.
_GENERIC = ("files", "hub", "directory", None)
# Names of files that say nothing: their folder may.
_PLAIN = ("", "train", "training", "data")
# Choices of the config whose value says what it is.
_CHOICES = ("approach", "model", "method", "data", "task", "experiment")


def name_trial(
    number: int,
    params: Mapping[str, Any],
    *,
    reference: str | None = None,
    seed: int | None = None,
    own: str | None = None,
) -> str:
    """Name a run of a trial: ``trial 7 · lr 2.3e-4 · bs 16 · 3 ep``, or ``trial 7 · seed 43``.

    Args:
        number: of the trial in the search; finals have the same numbers.
        params: what was searched, by key of the config.
        reference: what the trial stands for, if it is no point of the search: ``library_defaults``.
        seed: on which it trains, where a trial has several.
        own: a name that a person has given, which stands before; it is not cut.

    """
    seeds = {} if seed is None else {"seed": seed}
    stands_for = "" if reference is None else reference.replace("_", " ")
    name = _join([f"trial {number}", stands_for, *describe_params(params), *describe_params(seeds)])
    return name if own is None else f"{own}{_BETWEEN}{name}"


def find_own_name(name: str, number: int) -> str | None:
    """Find the name of a person's own in that of a run of a trial; None if there is none."""
    own, trial, _ = name.removeprefix(WINNER).partition(f"{_BETWEEN}trial {number}")
    return own if trial else None


def name_run(parts: Mapping[str, Mapping[str, Any]], task: str, settings: Mapping[str, Any]) -> str:
    """Name a run that belongs to no study: ``minilm · tweets · text classification``.

    Args:
        parts: model, method and data of the config.
        task: the name of its class.
        settings: what was typed of usual keys.

    """
    method = parts["method"].get("name")
    model = name_part(parts["model"]) + ("" if method in (None, "full") else f" {method}")
    return _join([model, name_part(parts["data"]), words_of(task), *describe_params(settings)])


def name_part(part: Mapping[str, Any]) -> str:
    """Name a model or data; a file, a folder or a repository by its own name."""
    for key in ("id", "path", "train") if part.get("name") in _GENERIC else ():
        if isinstance(part.get(key), str):
            path = PurePath(part[key])
            if path.stem not in _PLAIN:
                return caption(path.stem)
            if path.parent.name:
                return caption(path.parent.name)
    if isinstance(part.get("run_id"), str):
        return f"run {part['run_id'][:8]}"
    return caption(part.get("name", "unnamed"))


def words_of(name: str) -> str:
    """Write the name of a class as words: TextClassification as text classification."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def is_usual(key: str) -> bool:
    """Whether a key of the config has a short name."""
    return key.rpartition(".")[2] in _SHORT


def describe_params(params: Mapping[str, Any]) -> list[str]:
    """Write values with their short names: ``lr 2.3e-4``, ``bs 16``, ``3 ep``."""
    return [_describe_one(key, value) for key, value in params.items()]


def _describe_one(key: str, value: Any) -> str:
    last = key.rpartition(".")[2]
    if key in _CHOICES:
        return _short(value)
    if last in _SHORT:
        return _SHORT[last].format(_short(value))
    return f"{caption(last, _MOST_OF_VALUE).replace('_', ' ')} {_short(value)}"


def _short(value: Any) -> str:
    """Write 0.00023 as 2.3e-4, and a text in its first characters."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return caption(value, _MOST_OF_VALUE)
    if isinstance(value, int):
        return str(value)
    if value and not 1e-2 <= abs(value) < 1e5:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if exponent else mantissa
    return f"{value:.3g}"


def _join(parts: list[str]) -> str:
    return caption(_BETWEEN.join(filter(None, parts)), _MOST)
