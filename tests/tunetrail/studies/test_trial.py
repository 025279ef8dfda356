"""What a run reports to its trial, and which trials keep their weights."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tunetrail.studies.ranking import rank
from tunetrail.studies.trial import Trial

Reopen = Any


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return f"sqlite:///{tmp_path}/optuna.db"


@pytest.fixture
def study(storage: str) -> optuna.Study:
    return optuna.create_study(storage=storage, study_name="s", direction="maximize")


def report(
    study: optuna.Study, value: float, *, violation: float | None = None, **attributes: Any
) -> int:
    trial = study.ask()
    if violation is not None:
        trial.set_constraint("gap", violation)
    for name, attribute in attributes.items():
        trial.set_user_attr(name, attribute)
    study.tell(trial, value)
    return int(trial.number)


def reopen(study: optuna.Study, storage: str, number: int, **repeats: int) -> Trial:
    return Trial(
        storage=storage,
        study=study.study_name,
        number=number,
        pruner=optuna.pruners.ThresholdPruner(lower=0.5),
        objective="validation/accuracy",
        **repeats,
    )


def test_feasible_trials_rank_before_others_and_the_first_of_equals_wins(
    study: optuna.Study,
) -> None:
    worse = report(study, 0.6, violation=-0.1)
    far_off = report(study, 0.99, violation=0.5)
    near = report(study, 0.7, violation=0.1)
    best = report(study, 0.8)
    equal = report(study, 0.8)
    report(study, 0.8, reused_from=best)
    study.tell(study.ask(), state=TrialState.PRUNED)
    study.tell(study.ask(), state=TrialState.FAIL)
    assert [trial.number for trial in rank(study)] == [best, equal, worse, near, far_off]


def test_the_lowest_loss_is_the_best(storage: str) -> None:
    study = optuna.create_study(
        storage=storage, study_name="s", directions=["minimize", "maximize"]
    )
    for values in ((2.0, 0.0), (1.0, 0.0), (3.0, 9.0)):
        study.tell(study.ask(), values)
    assert [trial.number for trial in rank(study)] == [1, 0, 2]
    assert reopen(study, storage, study.ask().number).is_kept(0.5, keep_best=1)


def test_the_best_of_the_ranking_are_kept(study: optuna.Study, storage: str) -> None:
    for value in (0.5, 0.7, 0.6):
        report(study, value)
    report(study, 0.9, violation=0.3)
    trial = reopen(study, storage, study.ask().number)
    assert trial.is_kept(0.8, keep_best=1)
    assert not trial.is_kept(0.7, keep_best=1)  # an equal that finished first stays
    assert trial.is_kept(0.7, keep_best=2)
    assert trial.is_kept(0.65, keep_best=2)
    assert not trial.is_kept(0.55, keep_best=2)
    assert not trial.is_kept(0.95, keep_best=3, violation=0.1)
    assert trial.is_kept(0.95, keep_best=4, violation=0.1)


def test_without_repeats_constraints_are_set_at_once(study: optuna.Study, storage: str) -> None:
    number = study.ask().number
    violation = reopen(study, storage, number).set_constraints({"gap": 0.2, "speed": -5.0})
    assert violation == pytest.approx(0.2)
    assert study.trials[number].constraints == {"gap": 0.2, "speed": -5.0}


def test_repeats_set_the_mean_and_the_last_alone_is_kept(study: optuna.Study, storage: str) -> None:
    report(study, 0.7)
    asked = study.ask()

    def repeat(index: int) -> Trial:
        return reopen(study, storage, asked.number, repeat=index, num_repeats=3)

    for index, (value, gap) in enumerate([(0.9, 0.3), (0.9, 0.2)]):
        trial = repeat(index)
        trial.set_constraints({"gap": gap})
        assert not trial.is_kept(value, keep_best=9)
        assert not study.trials[asked.number].constraints
        # as the sweeper does after each job
        asked.set_user_attr("repeats", [[0.9]] * (index + 1))
    last = repeat(2)
    assert last.set_constraints({"gap": -0.8}) == 0.0
    assert study.trials[asked.number].constraints["gap"] == pytest.approx(-0.1)
    # the mean of 0.9, 0.9 and this one against 0.7
    assert last.is_kept(0.4, keep_best=1)
    assert not last.is_kept(0.2, keep_best=1)


def test_a_run_of_the_search_counts_in_the_constraints_of_its_final(
    study: optuna.Study, storage: str
) -> None:
    carried = {"carried": [[0.9]], "repeats": [[0.9]], "repeat_constraints": [{"gap": 0.3}]}
    study.enqueue_trial({}, user_attrs=carried)
    number = study.ask().number
    last = reopen(study, storage, number, repeat=1, num_repeats=2)
    assert last.set_constraints({"gap": -0.1}) == pytest.approx(0.1)
    # It is the first that reports.
    last.report(0.8, number=1, may_prune=False)
    assert study.trials[number].intermediate_values == {1: 0.8}


def test_a_trial_of_finals_reports_and_is_never_pruned(study: optuna.Study, storage: str) -> None:
    number = study.ask().number
    with pytest.raises(optuna.TrialPruned):
        reopen(study, storage, number).report(0.1, number=1, may_prune=True)
    study.set_user_attr("final_of", "another")
    reopen(study, storage, number).report(0.1, number=2, may_prune=True)
    assert study.trials[number].intermediate_values == {1: 0.1, 2: 0.1}


def test_only_the_first_repeat_reports_and_may_be_pruned(study: optuna.Study, storage: str) -> None:
    number = study.ask().number
    first = reopen(study, storage, number, repeat=0, num_repeats=2)
    first.set_num_evaluations(3)
    first.report(0.6, number=1, may_prune=True)
    second = reopen(study, storage, number, repeat=1, num_repeats=2)
    second.set_num_evaluations(5)
    second.report(0.1, number=1, may_prune=True)
    assert study.trials[number].intermediate_values == {1: 0.6}
    assert study.trials[number].user_attrs["num_evaluations"] == 3
    names = [found.name_run(seed=5 + place) for place, found in enumerate((first, second))]
    assert names == [f"trial {number} · seed 5", f"trial {number} · seed 6"]
    assert reopen(study, storage, number).name_run(seed=5) == f"trial {number}"
    with pytest.raises(optuna.TrialPruned):
        first.report(0.1, number=2, may_prune=True)
