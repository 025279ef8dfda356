"""The protocol between the sweeper and the app's callbacks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    import optuna


class StudyCallback:
    """Methods that the sweeper calls in its process.

    An object needs all five methods; inherit to get those that do nothing. Finals are a study of
    their own, with callbacks that are built anew from the same nodes; ``before_study`` of these is
    not called. A study of finals has ``user_attrs["final_of"]``.
    """

    def before_study(self, config: DictConfig, searched: Sequence[str]) -> None:
        """Before the study is opened, for the default config and each reference.

        An error ends the sweep.

        Args:
            config: of a job.
            searched: the keys that are searched; none for a reference.

        """

    def on_study_start(self, study: "optuna.Study", config: DictConfig) -> None:
        """Before the first trial of this process. An error ends the sweep."""

    def on_trial_end(self, study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
        """After a trial was reported to the study, so an error here cannot lose it.

        Also called for a trial of a dead process: its state is FAIL and its
        ``user_attrs["failure"]`` is ``interrupted``.
        """

    def on_study_end(self, study: "optuna.Study", interrupted: bool, failure: str | None) -> None:
        """After the last trial of this process, however it ended.

        Args:
            study: that was searched.
            interrupted: whether Ctrl-C or SIGTERM ended it.
            failure: the error that ended it.

        """

    def on_finals_end(
        self,
        study: "optuna.Study",
        finals: "optuna.Study",
        finalists: dict[int, int],
        config: DictConfig,
    ) -> None:
        """After the finals, in one process at a time.

        Every process that comes to their end calls it, and so does the same command later: it must
        find what was done before, and keep it. Ctrl-C may end it anywhere.

        Args:
            study: that was searched.
            finals: the study of its best points on fresh seeds; their values are in ``repeats``. Of
                the default config and references the first ``carried`` are those of the search.
            finalists: number of a trial in ``study`` to the number of its trial in ``finals``, if
                that is complete. The best of the search come first, then those that were among
                the best in earlier finals, then the default config, then references.
            config: as in ``on_study_start``.

        """
