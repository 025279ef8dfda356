"""The protocol between the sweeper and the app's callbacks."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    import optuna


class StudyCallback:
    """What happens around trials, in the process of the sweeper.

    An object needs all five methods; inherit to get those that do nothing. The finals are a study
    like any other: objects of their own, built from the same nodes, hear of it, except for
    ``before_study``; a study that is one has ``user_attrs["final_of"]``.
    """

    def before_study(self, config: DictConfig) -> None:
        """Before the study is opened, with the config of a job. An error here ends the sweep."""

    def on_study_start(self, study: "optuna.Study", config: DictConfig) -> None:
        """Before the first trial of this process. An error here ends the sweep."""

    def on_trial_end(self, study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
        """After the trial was told to the study, so that an error here cannot lose it.

        Called too for a trial that a dead process left behind: its state is FAIL and its
        ``user_attrs["failure"]`` is ``interrupted``.
        """

    def on_study_end(self, study: "optuna.Study", interrupted: bool, failure: str | None) -> None:
        """After the last trial of this process, whatever ended it.

        ``interrupted`` after Ctrl-C or SIGTERM; ``failure`` is the error that ended the sweep.
        """

    def on_finals_end(
        self,
        study: "optuna.Study",
        finals: "optuna.Study",
        finalists: dict[int, int],
        config: DictConfig,
    ) -> None:
        """After the finals, in one process at a time.

        Every process that reached their end calls it, and so does the same command later: it must
        find what was done before and leave it. Ctrl-C may end it anywhere.

        Args:
            study: that was searched.
            finals: its best points on fresh seeds, their values there in ``repeats``.
            finalists: number of a trial in ``study`` to that of its trial in ``finals``, the best
                of the search first, then those that were among the best when the finals ran
                before, last the default config's unless it is among the best. Only those whose
                trial in the finals is complete.
            config: as in ``on_study_start``.

        """
