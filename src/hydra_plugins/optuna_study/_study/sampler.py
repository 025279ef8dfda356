"""A sampler whose every point follows from the seed and the place of the trial in the study."""

import contextlib
import copy
import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import optuna
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, QMCSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from hydra_plugins.optuna_study._errors import SweepError, first_line
from hydra_plugins.optuna_study._spec.space import SearchSpace
from hydra_plugins.optuna_study._study.evolution import ReplayedCmaEs
from hydra_plugins.optuna_study.attributes import FAILURE, OVERRIDES, REFERENCE, RETRY_OF


class StudySampler(BaseSampler):
    """Builds the configured sampler anew for each trial.

    A sampler of Optuna carries a random state from trial to trial, which is lost when the process
    ends: five trials, a stop and five more would not be the same ten as without the stop. Here the
    random state of a trial comes from the seed and the number of points before it, and the rest
    from the trials in the study. Samplers that follow one sequence (grid, quasi-Monte Carlo) keep
    the seed itself.
    """

    def __init__(
        self,
        config: dict[str, Any],
        *,
        key: str,
        seed: int | None,
        space: SearchSpace,
    ) -> None:
        """Check that the sampler can be built.

        Args:
            config: node with _target_, a class of ``optuna.samplers``.
            key: of the node in the config of the app, for messages.
            seed: of the study; None draws another each time.
            space: what is searched; a grid lists its values.

        Raises:
            SweepError: no sampler can be built from the node, or it cannot search this space.

        """
        if "seed" in config:
            raise SweepError(
                f"{key}.seed={config['seed']}: a study has one seed; set hydra.sweeper.seed"
            )
        self._key = key
        self._seed = seed
        self._space = space
        self._config = dict(config)
        self._class = self._load_class()
        # How many points a grid has; None: the sampler is none.
        self.grid_size: int | None = None
        if issubclass(self._class, GridSampler):
            grid = {parameter.name: parameter.grid() for parameter in space.parameters}
            self.grid_size = math.prod(map(len, grid.values()))
            self._config["search_space"] = grid
        # How many points were drawn before the present one.
        self._draw = 0
        self._sampler = self._build()

    def exhausted(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether some trial has taken each point of a grid; never without a grid."""
        if self.grid_size is None:
            return False
        taken = {
            tuple(repr(trial.params[parameter.name]) for parameter in self._space.parameters)
            for trial in trials
            if OVERRIDES in trial.user_attrs and REFERENCE not in trial.user_attrs
        }
        return len(taken) >= self.grid_size

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        # Not from the study: Hyperband shows a sampler only a part of the trials.
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)  # noqa: SLF001 - there is no other way to all
        # A point that is run again keeps its first place.
        first = trial
        while RETRY_OF in first.user_attrs:
            first = trials[first.user_attrs[RETRY_OF]]
        self._draw = sum(map(_takes_a_place, trials[: first.number]))
        self._sampler = self._build()
        self._sampler.before_trial(_searched(study), trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(_searched(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if issubclass(self._class, CmaEsSampler):
            # It adds the number of the trial to its seed, and an interruption changes that number.
            trial = copy.copy(trial)
            trial.number = self._draw
        with self._closes(study, trial):
            return self._sampler.sample_relative(_searched(study), trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        with self._closes(study, trial):
            return self._sampler.sample_independent(
                _searched(study), trial, param_name, param_distribution
            )

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        # A grid only checks whether to stop Study.optimize, which does not run here.
        if self.grid_size is None and REFERENCE not in trial.user_attrs:
            self._sampler.after_trial(study, trial, state, values)

    def _load_class(self) -> type[BaseSampler]:
        target = self._config["_target_"]
        try:
            found = get_object(target)
        except Exception as error:
            raise self._error(error.__cause__ or error) from error
        if not (isinstance(found, type) and issubclass(found, BaseSampler)):
            raise SweepError(f"{self._key}._target_={target}: give a class of optuna.samplers")
        if issubclass(found, CmaEsSampler):
            return type(found.__name__, (ReplayedCmaEs, found), {})
        return found

    def _build(self) -> BaseSampler:
        """Build the sampler for the present point."""
        arguments: dict[str, Any] = {}
        if self._seed is not None and "seed" in inspect.signature(self._class).parameters:
            sequence = np.random.SeedSequence(self._seed, spawn_key=(self._draw,))
            derived = int(sequence.generate_state(1)[0])
            if issubclass(self._class, GridSampler):
                arguments["seed"] = self._seed
            elif issubclass(self._class, QMCSampler):
                arguments["seed"] = self._seed
                arguments["independent_sampler"] = RandomSampler(seed=derived)
            else:
                arguments["seed"] = derived
        try:
            return self._class(**self._arguments(), **arguments)
        except Exception as error:
            raise self._error(error) from error

    def _arguments(self) -> dict[str, Any]:
        """Return the arguments of the node; those that are nodes are built anew each time.

        Hydra's instantiate does both, and takes as long as everything else around a trial.
        """
        given = {name: value for name, value in self._config.items() if name != "_target_"}
        try:
            built = {
                name: instantiate(value, _convert_="all") if _is_node(value) else value
                for name, value in given.items()
            }
        except InstantiationException as error:
            raise self._error(error.__cause__ or error) from error
        for name, part in built.items():
            if isinstance(part, CmaEsSampler):
                raise SweepError(
                    f"{self._key}.{name}: CmaEsSampler opens pickles that the storage holds; use "
                    f"it as {self._key} itself, which does without them"
                )
        return built

    @contextlib.contextmanager
    def _closes(self, study: optuna.Study, trial: FrozenTrial) -> Iterator[None]:
        """Close the trial if no point can be drawn for it; some settings are only used then."""
        try:
            yield
        except Exception as error:
            failure = self._error(error)
            storage, number = study._storage, trial._trial_id  # noqa: SLF001 - as in before_trial
            storage.set_trial_user_attr(number, FAILURE, str(failure))
            storage.set_trial_state_values(number, TrialState.FAIL)
            raise failure from error

    def _error(self, error: BaseException) -> SweepError:
        return SweepError(f"{self._key}: no sampler can work with it ({first_line(error)})")


def _searched(study: optuna.Study) -> optuna.Study:
    """Show a study without its references: their trials have no parameters.

    Of Hyperband the study may be a view already, so its class is extended, whichever it is.
    """
    kind = type(study)

    def get_trials(self: Any, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        trials = kind._get_trials(self, *args, **kwargs)  # noqa: SLF001 - what samplers read trials by
        return [trial for trial in trials if REFERENCE not in trial.user_attrs]

    view: optuna.Study = object.__new__(type(kind.__name__, (kind,), {"_get_trials": get_trials}))
    object.__getattribute__(view, "__dict__").update(object.__getattribute__(study, "__dict__"))
    return view


def _takes_a_place(trial: FrozenTrial) -> bool:
    """Whether the point of a trial counts in the sequence: drawn or enqueued, and no retry.

    A process that is killed while it draws a point leaves a trial that does not count, and a
    reference is no point.
    """
    if RETRY_OF in trial.user_attrs or REFERENCE in trial.user_attrs:
        return False
    return OVERRIDES in trial.user_attrs or "fixed_params" in trial.system_attrs


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value
