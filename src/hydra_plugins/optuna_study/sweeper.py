"""The sweeper, its config, and the protocol between it and a job.

A sweep runs a *study*, which is kept in a storage. The same command with the same study name
continues the study up to its budget of finished trials; in a second terminal it adds a worker.
Workers find each other beside the file of the storage; on several machines, in a PostgreSQL.

A job's config gets ``trial.storage``, ``trial.study`` and ``trial.number``: no overrides, which are
written and may name a folder. (A launcher other than Hydra's basic one takes overrides alone; a URL
with a password is ``${hydra:sweeper.storage}`` there.) With them it can open its trial, report
intermediate values, set constraints, raise ``optuna.TrialPruned``::

    study = optuna.load_study(study_name=..., storage=..., pruner=...)
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    trial = optuna.Trial(study, trial_id)

It returns a float, or one for each objective in their order. Where a trial is several jobs
(``num_seeds``), each also gets ``trial.repeat`` (from 0) and ``trial.num_repeats``.

``trial.progress`` names a file in which a job may write how far it is, for the lines of a terminal:
``{"said": "trains, step 40 of 189", "share": 0.21}``, at most a few times a second, and always a
whole file (written beside it and renamed).

A *reference* (``references``) is a config that is run as it is, beside the search. The job of one
should not be pruned either: its trial has ``user_attrs["reference"]``.

After the search come the *finals*, unless it was interrupted, it failed, or ``final_seeds`` is 0.
They are a study of their own in the same storage, ``STUDY-finals-SEEDS``, and its
``user_attrs["final_of"]`` names the first study. Each of its trials is a point of the search
(``user_attrs["finalist_of"]`` is the number of its trial there) on fresh seeds. The default config
and the references, which the search did not choose, keep their runs there as their first ones
(``user_attrs["carried"]``). A job should not prune it. If the first study continued with another
config (``allow_changes``), only trials since then can be finalists, and the name of the finals ends
in ``-since-TRIAL``.

A job reports what went wrong by Python's own exceptions, anywhere in the chain of causes:
MemoryError (the point is infeasible), FloatingPointError (not finite), ConnectionError and
TimeoutError (run again after a while), OSError with ENOSPC (the disk is full). Anything else is an
error in code.

Hydra imports this module at every start, so Optuna is imported only when a sweep starts.
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
    """Draws points, runs jobs, and reports to the study how they ended."""

    def __init__(self, **settings: Any) -> None:
        self.settings: Mapping[str, Any] = settings

    # What setup sets.
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
        """Run the study until its budget is reached.

        Raises:
            SweepError: (a HydraException) the config cannot be used, the study in the storage asks
                something else, too many trials failed, or no trial completed.
            SystemExit: with code 130 after Ctrl-C or SIGTERM.

        """
        from hydra_plugins.optuna_study._sweep import run_sweep

        run_sweep(self, self.settings, arguments)
