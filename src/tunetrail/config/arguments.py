"""The arguments of Trainer: those a person may set, and those that the config decides."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from accelerate.utils import DynamoBackend  # type: ignore[import-untyped] # ships no types
from hydra.errors import InstantiationException
from omegaconf import DictConfig
from transformers import Trainer, TrainingArguments, get_scheduler

from tunetrail.config.annotations import find_fault
from tunetrail.config.build import build, plain
from tunetrail.errors import InputError, one_line

# The run sets these itself. What a person sets here would be overridden in silence.
_OURS = {
    "bf16": "use precision=bf16",
    "fp16": "use precision=fp16",
    "output_dir": "use tracking.checkpoint_dir",
    "report_to": "use tracking.uri",
    "disable_tqdm": "leave it out: a single run shows one progress bar, a trial none",
    "do_train": "use python train.py",
    "resume_from_checkpoint": "use resume=RUN_ID",
    **dict.fromkeys(
        ("push_to_hub", "hub_token", "hub_model_id"),
        "push the logged model, a folder that from_pretrained loads",
    ),
    "fsdp": "a run uses one process",
    "deepspeed": "a run uses one process",
    "batch_eval_metrics": "the task scores the rows of a split together",
}
_COUNTS = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "save_total_limit",
)
_SEEDS = ("seed", "data_seed")
# Of these three kinds, what may be null.
_OPTIONAL = ("data_seed", "eval_steps", "save_total_limit")
# Beginnings of their names.
_OF_WHOLE_MODELS = ("galore", "apollo", "lomo", "adalomo")
_PRECISIONS = ("auto", "bf16", "fp16", "fp32")


@dataclass(frozen=True)
class _Range:
    fits: Callable[[float], bool]
    wanted: str


_ABOVE_0 = _Range(lambda value: value > 0, "a number above 0")
_FROM_0 = _Range(lambda value: value >= 0, "a number of 0 or more")
_BELOW_1 = _Range(lambda value: 0 <= value < 1, "a number from 0 to below 1")
# What the libraries refuse after the weights are loaded, or take without a word.
_RANGES = {
    **dict.fromkeys(("learning_rate", "num_train_epochs"), _ABOVE_0),
    **dict.fromkeys(("eval_steps", "save_steps", "logging_steps"), _ABOVE_0),
    **dict.fromkeys(("weight_decay", "max_grad_norm", "warmup_steps", "adam_epsilon"), _FROM_0),
    **dict.fromkeys(("eval_delay", "dataloader_num_workers"), _FROM_0),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "label_smoothing_factor"), _BELOW_1),
}


def require_trainer_values(values: Mapping[str, Any]) -> None:
    """Check the values under ``trainer``, whose types are known to be right.

    Raises:
        InputError: a name that the run sets itself, a value that is out of range, or two that
            contradict each other.

    """
    for name, value in values.items():
        if name in _OURS:
            raise InputError(f"trainer.{name}: cannot be set here; {_OURS[name]}")
        if value is None and name in _OPTIONAL:
            continue
        if name in _COUNTS:
            require_count(f"trainer.{name}", value)
        if name in _SEEDS:
            require_seed(f"trainer.{name}", value)
        if name in _RANGES:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not _RANGES[name].fits(value):
                raise InputError(f"trainer.{name}={value}: must be {_RANGES[name].wanted}")
    if values.get("max_steps") == 0 or values.get("max_steps", 1) < -1:
        raise InputError(
            f"trainer.max_steps={values['max_steps']}: must be 1 or more, or -1 for no limit"
        )
    _require_evaluations(values)


def _require_evaluations(values: Mapping[str, Any]) -> None:
    """Check that the run is evaluated, and that the weights of its best evaluation are saved."""
    strategy, save = values.get("eval_strategy"), values.get("save_strategy")
    if strategy == "no":
        raise InputError(
            "trainer.eval_strategy=no: a run is judged by its evaluations; use epoch, or steps "
            "with trainer.eval_steps=N and trainer.save_strategy=steps trainer.save_steps=N"
        )
    if not values.get("load_best_model_at_end") or save == "best":
        return
    # As TrainingArguments does it.
    steps = values.get("eval_steps") or values.get("logging_steps")
    other = "or keep the last weights with trainer.load_best_model_at_end=false"
    if strategy != save:
        also = f" trainer.save_steps={steps}" if strategy == "steps" else ""
        raise InputError(
            f"trainer.eval_strategy={strategy}: trainer.save_strategy={save} is another, so the "
            f"weights of the best evaluation would not be saved; add trainer.save_strategy="
            f"{strategy}{also}, {other}"
        )
    every = values.get("save_steps")
    if strategy == "steps" and steps and every and not _is_multiple(every, steps):
        raise InputError(
            f"trainer.save_steps={every}: must be a multiple of trainer.eval_steps={steps}, or the "
            "weights of the best evaluation would not be saved; set trainer.save_steps="
            f"{steps}, {other}"
        )


def _is_multiple(every: float, steps: float) -> bool:
    """Tell whether each save is an evaluation; a share of all steps and a number cannot be."""
    if (every < 1) != (steps < 1):
        return False
    times = every / steps
    return math.isclose(times, round(times)) and times >= 1


def require_seed(key: str, value: object) -> None:
    """Refuse what the generators do not take."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise InputError(f"{key}={value}: must be a whole number from 0 to 4294967295")


def require_count(key: str, value: object, *, remedy: str = "") -> None:
    """Refuse anything but a whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{key}={value}: must be a whole number of 1 or more{remedy}")


def precision_flags(precision: str) -> dict[str, bool]:
    """Return the arguments of TrainingArguments for a ``precision``.

    ``auto`` takes bf16 only where it is faster: on a GPU that computes in it, and on a processor
    with AMX. Without AMX bf16 autocast took 1.4 to 2.5 times as long as fp32 (docs/DECISIONS.md).

    Raises:
        InputError: an unknown precision, or one that this machine cannot compute in.

    """
    if precision not in _PRECISIONS:
        raise InputError(f"precision={precision}: must be one of {', '.join(_PRECISIONS)}")
    gpu = torch.cuda.is_available()
    if precision == "fp16" and not gpu:
        raise InputError("precision=fp16 needs a GPU and none was found; use bf16, fp32 or auto")
    if precision == "auto":
        if gpu:
            precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        else:
            precision = "bf16" if torch.cpu.get_capabilities().get("amx_bf16") else "fp32"
    flags = {"bf16": precision == "bf16", "fp16": precision == "fp16"}
    # TrainingArguments refuses bf16 on a processor without use_cpu.
    return flags | {"use_cpu": True} if flags["bf16"] and not gpu else flags


def autocast_type(arguments: TrainingArguments) -> torch.dtype | None:
    """Return the type in which a run with these arguments computes; None in full precision."""
    if arguments.bf16:
        return torch.bfloat16
    return torch.float16 if arguments.fp16 else None


def read_best_metric(name: object) -> str:
    """Return the name that Trainer looks up, such as ``validation_loss``, for one that people type.

    They type ``eval_loss`` or ``loss`` as in transformers, or ``validation/loss`` as in MLflow.
    """
    short = str(name).removeprefix("eval_").replace("/", "_")
    return short if short.startswith(("validation_", "train_")) else f"validation_{short}"


def build_arguments(cfg: DictConfig, task: Any, checkpoint_dir: Path) -> TrainingArguments:
    """Build the arguments of Trainer.

    Args:
        cfg: of the run.
        task: its metrics say which way is better, unless ``trainer.greater_is_better`` does, and
            whether it is measured before training, unless ``trainer.eval_on_start`` does.
        checkpoint_dir: where checkpoints go.

    Raises:
        InputError: a value that TrainingArguments does not take.

    """
    with _named_errors("trainer"):
        arguments: TrainingArguments = build(cfg.trainer, **_decide(cfg, task, checkpoint_dir))
    return arguments


def require_arguments_of_trainer(cfg: DictConfig, task: Any) -> None:
    """Check that Trainer takes the arguments, and that optimizer and schedule can be built of them.

    The optimizer of one weight is as picky as that of a model. Nothing that a run sees is changed:
    no device is set up, and no library is told how to compute.

    Raises:
        InputError: in the words of the library.

    """
    values = plain(cfg.trainer) | _decide(cfg, task, Path(cfg.tracking.checkpoint_dir))
    kind = resolve_name(values.pop("_target_"))
    for name in ("tf32", "torch_compile", "torch_compile_mode", "full_determinism"):
        values.pop(name, None)
    backend = values.pop("torch_compile_backend", None)
    if backend is not None and (fault := find_fault(str(backend).upper(), DynamoBackend)):
        raise InputError(f"trainer.torch_compile_backend={backend}: {fault}")
    with _named_errors("trainer"):
        arguments = type(kind.__name__, (kind,), {"device": torch.device("cpu")})(**values)
    _require_optimizer(arguments)


def _require_optimizer(arguments: Any) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    given = f" with trainer.optim_args={arguments.optim_args}" if arguments.optim_args else ""
    with _named_errors(f"trainer.optim={arguments.optim.value}{given}"):
        try:
            optimizer, settings = Trainer.get_optimizer_cls_and_kwargs(arguments)
        except ValueError:
            # Some kinds are built of the whole model.
            if arguments.optim.value.startswith(_OF_WHOLE_MODELS):
                return
            raise
        if isinstance(optimizer, type):
            optimizer([weight], **settings)
    settings = arguments.lr_scheduler_kwargs
    written = f"trainer.lr_scheduler_type={arguments.lr_scheduler_type.value}" + (
        f" with trainer.lr_scheduler_kwargs={settings}" if settings else ""
    )
    with _named_errors(written):
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer=torch.optim.SGD([weight], lr=arguments.learning_rate),
            num_warmup_steps=1,
            num_training_steps=10,
            scheduler_specific_kwargs=settings and dict(settings),
        )


def _decide(cfg: DictConfig, task: Any, checkpoint_dir: Path) -> dict[str, Any]:
    """Return the arguments that are not, or not only, decided by ``trainer``."""
    best = read_best_metric(cfg.trainer.metric_for_best_model)
    name = best.partition("_")[2]
    greater = cfg.trainer.greater_is_better
    if greater is None:
        greater = name in task.metrics and task.metrics[name].greater_is_better
    on_start = cfg.trainer.get("eval_on_start")
    eval_batch_size = cfg.trainer.per_device_eval_batch_size
    if task.is_language_model:
        # Their logits over a vocabulary are most of the memory that a batch needs.
        eval_batch_size = min(eval_batch_size, cfg.trainer.per_device_train_batch_size)
    return {
        "output_dir": str(checkpoint_dir),
        "disable_tqdm": True,
        "report_to": "none",
        "metric_for_best_model": best,
        "greater_is_better": greater,
        "eval_on_start": task.is_language_model if on_start is None else on_start,
        "per_device_eval_batch_size": eval_batch_size,
        **precision_flags(cfg.precision),
    }


@contextlib.contextmanager
def _named_errors(written: str) -> Iterator[None]:
    """Put the key and its value before what a library says."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # Hydra wraps what the library says.
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        raise InputError(f"{written}: {one_line(cause)}") from error
