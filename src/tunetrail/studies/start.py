"""The earlier run that a run starts from: looked up once, and the same for a whole study."""

from functools import partial

from omegaconf import DictConfig

from tunetrail.studies.trial import Trial
from tunetrail.tracking.starts import resolve_run


def pin_start(cfg: DictConfig, trial: Trial | None) -> None:
    """Put the id of an earlier run where the config names it; do nothing if it names none.

    The config that a run records then means the same for ever. A name of the registry may move
    while a study runs, such as at the end of its own finals: its trials do not move with it.

    Raises:
        InputError: there is no such run, or it has no model to start from.
        OutageError: the store's server does not answer.

    """
    source = cfg.model.source
    if "run_id" not in source:
        return
    resolve = partial(resolve_run, uri=cfg.tracking.uri)
    name = source.run_id
    source.run_id = resolve(name) if trial is None else trial.pin(name, resolve)
    if "run_id" in cfg.model:
        cfg.model.run_id = source.run_id
