"""The sweeper, its config, and the protocol between it and a job.

A sweep works on a *study*, which lives in a storage and outlives the process. The same command
with the same study name goes on from where the study stands, up to its budget of finished
trials; run in a second terminal it adds a worker. Workers on one machine share
``hydra.sweep.dir``, so name that folder by the study.

A job is given three overrides, ``trial.storage``, ``trial.study`` and ``trial.number``, with which
it can open its trial, report intermediate values, set constraints and raise
:class:`optuna.TrialPruned`::

    study = optuna.load_study(study_name=..., storage=..., pruner=...)
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    trial = optuna.Trial(study, trial_id)

It returns a float, or one for each objective in their order. Where a trial is several jobs
(``num_seeds``) each has ``trial.repeat`` (from 0) and ``trial.num_repeats``, too.

After the search (not after an interruption or an error) come the *finals*, if ``final_seeds`` is
not 0: a study of its own in the same storage, ``STUDY-finals-SEEDS``, whose
``user_attrs["final_of"]`` names the first. Each of its trials is a point of the search
(``user_attrs["finalist_of"]`` has the number of its trial there) on fresh seeds, to the end: a job
should not prune it. Once the first study has gone on under another config (``allow_changes``) only
trials since then are finalists, and the name of the finals ends in ``-since-TRIAL``.

A job says what went wrong by Python's own exceptions, anywhere in the chain of causes: MemoryError
(the point is infeasible), FloatingPointError (not finite), ConnectionError and TimeoutError (tried
again after a while), OSError with ENOSPC (the disk is full); anything else is an error in code.

Hydra imports this module at every start, so Optuna is imported only when a sweep begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig


@dataclass
class OptunaStudyConf:
    """Node ``hydra.sweeper``. Checked by the sweeper itself, so that an error is one line."""

    _target_: str = "hydra_plugins.optuna_study.sweeper.OptunaStudySweeper"
    # The sampler is built anew for each trial, from the seed and the trial's number.
    _recursive_: bool = False
    _convert_: str = "all"

    study_name: Any = MISSING
    # A database URL (sqlite:///FILE, postgresql://…), or a path that ends in .log for a journal.
    storage: Any = MISSING
    # The seed of every sampler; null draws a new one each time.
    seed: Any = None
    sampler: Any = field(default_factory=lambda: {"_target_": "optuna.samplers.TPESampler"})
    pruner: Any = field(default_factory=lambda: {"_target_": "optuna.pruners.NopPruner"})
    # Name to maximize | minimize, in the order in which a job returns its values.
    objectives: Any = MISSING
    # Finished trials (complete or pruned) after which the study is done.
    num_trials: Any = MISSING
    # Seconds after which this process begins no more trials; null never.
    timeout: Any = None
    # Finished trials without a new best after which the study is done; null never.
    patience: Any = None
    # Key to a sweep expression in Hydra's syntax; the command line replaces it key by key.
    params: Any = field(default_factory=dict)
    # MODULE.FUNCTION, called with (config, trial): what it suggests is searched too.
    custom_search_space: Any = None
    # Whether trial 0 is the config as it is composed without the search.
    try_default: Any = True
    # Points to try after that: mappings of key to value. What a point leaves open is drawn.
    enqueue: Any = field(default_factory=list)
    # Jobs in one trial, each with another value at seed_key; the trial's value is their mean.
    num_seeds: Any = 1
    seed_key: Any = "seed"
    # Once the search is done, so many of its best points are trained again, and the default's with
    # them, on as many seeds that the search has not used; 0 seeds: nothing is.
    finalists: Any = 2
    final_seeds: Any = 0
    # 1 runs jobs in this process; more, or auto, in long-lived processes of their own.
    num_workers: Any = 1
    # How many of them share a GPU, where there is one.
    workers_per_gpu: Any = 1
    # Overrides given to every job after all others.
    job_overrides: Any = field(default_factory=list)
    # Keys whose values may differ when a study is continued.
    changeable: Any = field(default_factory=list)
    # Whether all else may differ, too.
    allow_changes: Any = False
    # MODULE.FUNCTION: everything that is written of configs, overrides and errors goes through it.
    redact: Any = None
    # The same error this many times in a row ends the sweep.
    max_repeated_failures: Any = 3
    # So does more than this share of num_trials that failed.
    max_failure_rate: Any = 0.5
    # Name to a node with _target_: objects with the methods of StudyCallback.
    callbacks: Any = field(default_factory=dict)


ConfigStore.instance().store(
    group="hydra/sweeper", name="optuna_study", node=OptunaStudyConf, provider="optuna_study"
)


class OptunaStudySweeper(Sweeper):
    """Proposes points, launches jobs through Hydra's launcher, tells the study how they ended."""

    def __init__(self, **settings: Any) -> None:
        self.settings: Mapping[str, Any] = settings

    # What Hydra's base class leaves open until setup.
    hydra_context: HydraContext
    task_function: TaskFunction
    config: DictConfig
    launcher: Launcher

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Work on the study until its budget is reached.

        Raises:
            SweepError: (a HydraException) the config cannot be used, the study in the storage is
                another one, the same failure came again and again, or no trial completed.
            SystemExit: with code 130 after Ctrl-C or SIGTERM.

        """
        from hydra_plugins.optuna_study._sweep import run_sweep

        run_sweep(
            self.settings,
            arguments,
            config=self.config,
            hydra_context=self.hydra_context,
            launcher=self.launcher,
            task_function=self.task_function,
        )
