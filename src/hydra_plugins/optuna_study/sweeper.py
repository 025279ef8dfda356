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
from dataclasses import make_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.optuna_study._spec.settings import config_fields

# Node ``hydra.sweeper``. Not recursive: the sampler is built anew for each trial.
OptunaStudyConf = make_dataclass(
    "OptunaStudyConf",
    [
        ("_target_", str, "hydra_plugins.optuna_study.sweeper.OptunaStudySweeper"),
        ("_recursive_", bool, False),
        ("_convert_", str, "all"),
        *config_fields(),
    ],
    namespace={"__module__": __name__},
)
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
