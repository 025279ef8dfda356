"""CMA-ES without pickles.

Optuna's sampler keeps its state as a pickle on a trial, and a pickle runs code when it is opened.
The state follows from the values of the trials, so it is computed from them again: for 500 trials
of five parameters that takes 40 ms.
"""

import copy
from collections import defaultdict
from typing import Any

import numpy as np
from optuna.samplers import CmaEsSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

# What the sampler of Optuna writes on a trial with_margin: a point of the unit cube.
_ENCODED = "x_for_tell"


class ReplayedCmaEs(CmaEsSampler):
    """Comes before a class of CMA-ES, and replaces how it keeps its state.

    Its points are those that the class would draw by itself.
    """

    # The finished trials, and how many parameters are searched.
    _seen: list[FrozenTrial]
    _num_parameters: int

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> None:
        self._seen = completed_trials

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        """Write no state."""
        del optimizer_str
        return {}

    def _init_optimizer(self, trans: Any, direction: StudyDirection) -> Any:
        self._num_parameters = len(trans.bounds)
        before = self._cma_rng.rng.get_state()
        optimizer = super()._init_optimizer(trans, direction)
        members = defaultdict(list)
        for trial in self._get_members(self._seen):
            members[trial.system_attrs[self._attr_key_generation]].append(trial)
        # The last full generation is told by the class itself.
        last = max(members, default=0)
        while optimizer.generation < last:
            told = members[optimizer.generation][: optimizer.population_size]
            if len(told) < optimizer.population_size:
                break
            solutions = []
            for trial in told:
                assert trial.value is not None
                encoded = trial.system_attrs[_ENCODED] if self._with_margin else None
                point = trans.transform(trial.params) if encoded is None else np.array(encoded)
                is_cost = direction is StudyDirection.MINIMIZE
                solutions.append((point, trial.value if is_cost else -trial.value))
            optimizer.tell(solutions)
            # As a pickle would: it keeps one half of a symmetric matrix.
            optimizer = copy.deepcopy(optimizer)
        if optimizer.generation > 0:
            # A state that is read draws no seed for itself.
            self._cma_rng.rng.set_state(before)
        return optimizer

    def _get_solution_trials(self, trials: list[FrozenTrial], generation: int) -> list[FrozenTrial]:
        return self._get_members(super()._get_solution_trials(trials, generation))

    def _get_members(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Take the trials of generations that can be told."""
        return [
            trial
            for trial in trials
            if isinstance(trial.system_attrs.get(self._attr_key_generation), int)
            and (not self._with_margin or self._is_encoded(trial))
        ]

    def _is_encoded(self, trial: FrozenTrial) -> bool:
        """Whether a trial has a point of the unit cube."""
        point = trial.system_attrs.get(_ENCODED)
        return (
            isinstance(point, list)
            and len(point) == self._num_parameters
            and all(isinstance(x, float) and -1 <= x <= 2 for x in point)
        )
