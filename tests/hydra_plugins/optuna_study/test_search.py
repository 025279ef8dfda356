"""Which points a study tries: the default first, enqueued points, parameters of a function."""

import pytest
from optuna.trial import TrialState

from hydra_plugins.optuna_study._errors import SweepError

from .toy_callback import recorder

DEFAULT = "hydra.sweeper.try_default=true"
CUSTOM = f"hydra.sweeper.custom_search_space={__name__}"


def more(config, trial):
    """A second dimension that exists only on one side of the first."""
    assert "hydra" not in trial.params
    if trial.params["x"] > 0:
        trial.suggest_int("n", 1, config.seed + 3)
        trial.suggest_categorical("name", ["a b", "null", "1"])


def outside(config, trial):
    trial.suggest_int("n", 5, 9)


def broken(config, trial):
    raise RuntimeError("no idea\nat all")


def points(study):
    return [trial.params for trial in study.trials]


def test_trial_zero_is_the_composed_default(sweep):
    study = sweep(DEFAULT, "num_trials=2", "n=range(0,9)")
    assert study.trials[0].params == {"x": 0.0, "n": 0}
    assert study.trials[0].user_attrs["enqueued"] == "default"
    assert "enqueued" not in study.trials[1].user_attrs


def test_the_default_knows_groups_and_fixed_values(sweep):
    study = sweep(DEFAULT, "num_trials=1", "shape=square,round", "x=-0.5,0.5", "n=0")
    # x is 0.0 in the config, which is none of the choices: no point of this study.
    assert "enqueued" not in study.trials[0].user_attrs
    study = sweep(DEFAULT, "num_trials=1", "shape=square,round", "x=1,0.0", "n=0", study="b")
    assert study.trials[0].params == {"x": 0.0, "shape": "round"}


def test_a_default_outside_the_space_is_announced_and_left_out(sweep, capfd):
    study = sweep(DEFAULT, "num_trials=1", "x=interval(0.5,1)")
    assert study.trials[0].params["x"] >= 0.5
    said = capfd.readouterr().out
    assert "the default config is not tried: x=0.0 is not in interval(0.5,1.0)" in said


def test_the_default_is_queued_once_in_a_studys_life(sweep):
    sweep(DEFAULT, "num_trials=1")
    study = sweep(DEFAULT, "num_trials=3")
    assert [trial.user_attrs.get("enqueued") for trial in study.trials] == ["default", None, None]


@pytest.mark.slow
def test_a_queued_point_survives_a_kill_while_it_is_being_drawn(sweep, load_study):
    """Killed between taking the point from the queue and writing what was drawn for it."""
    asked = "hydra.sweeper.enqueue=[{n: 3}]"
    whole = sweep(DEFAULT, asked, "num_trials=4", study="whole")
    with pytest.raises(SweepError, match="could not start"):
        sweep(DEFAULT, asked, recorder(broken="start"))
    study = load_study()
    study.ask()
    sweep(DEFAULT, asked, "num_trials=1")
    study.ask()
    study = sweep(DEFAULT, asked, "num_trials=4")
    complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    assert sorted(map(str, points(whole))) == sorted(str(trial.params) for trial in complete)
    assert {trial.user_attrs.get("enqueued") for trial in complete} == {"default", "point", None}


def test_enqueued_points_come_first_complete_or_in_part(sweep):
    asked = "hydra.sweeper.enqueue=[{x: 0.5, n: 2}, {n: 3}]"
    study = sweep(DEFAULT, asked, "num_trials=4")
    assert study.trials[1].params == {"x": 0.5, "n": 2}
    assert study.trials[2].params["n"] == 3
    assert [trial.user_attrs.get("enqueued") for trial in study.trials] == [
        "default", "point", "point", None,
    ]  # fmt: skip
    # Another one may be asked for later; those that were tried are not tried again.
    study = sweep(DEFAULT, "hydra.sweeper.enqueue=[{x: 0.5, n: 2}, {x: -0.5}]", "num_trials=5")
    assert study.trials[4].params["x"] == -0.5
    assert len(study.trials) == 5


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("{x: 3}", "hydra.sweeper.enqueue: x=3 is not in interval(-1.0,1.0)"),
        ("{n: 1.5}", "hydra.sweeper.enqueue: n=1.5 is not in int(interval(0,3))"),
        ("{y: 1}", "hydra.sweeper.enqueue: y is not searched (searched: x, n)"),
        ("3", "hydra.sweeper.enqueue=[3]: give a list of points, each a mapping"),
    ],
)
def test_a_point_that_cannot_be_tried_is_refused(sweep, point, message):
    with pytest.raises(SweepError) as caught:
        sweep(f"hydra.sweeper.enqueue=[{point}]")
    assert message in str(caught.value)


def test_a_function_adds_parameters_that_depend_on_others(sweep):
    seen = []

    def task(cfg):
        seen.append((cfg.x, cfg.n, cfg.name))
        return cfg.x

    study = sweep(f"{CUSTOM}.more", "~space.n", DEFAULT, "num_trials=8", task=task)
    for trial, (x, n, name) in zip(study.trials, seen, strict=True):
        assert x == trial.params["x"]
        assert ("n" in trial.params) == (x > 0)
        assert n == trial.params.get("n", 0)
        assert name == trial.params.get("name")
    assert len({tuple(p) for p in points(study)}) == 2
    assert study.trials[0].params == {"x": 0.0}


def test_a_function_may_suggest_every_parameter(sweep):
    study = sweep(f"{CUSTOM}.outside", "~space.x", "~space.n", "num_trials=2", DEFAULT)
    assert all(5 <= trial.params["n"] <= 9 for trial in study.trials)
    # The default n=0 is not in the function's range.
    assert "enqueued" not in study.trials[0].user_attrs


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{CUSTOM}.broken", "broken failed (RuntimeError: no idea)"),
        (f"{CUSTOM}.nowhere", "no such function"),
        ("hydra.sweeper.custom_search_space=more", "give MODULE.FUNCTION"),
    ],
)
def test_a_function_that_cannot_be_used_ends_the_sweep_in_one_line(sweep, name, message):
    with pytest.raises(SweepError) as caught:
        sweep(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_finished_point_is_reported_again_and_not_run_again(sweep, capfd):
    runs = []

    def task(cfg):
        runs.append(cfg.n)
        return cfg.n

    study = sweep("x=0", "n=1,2", "num_trials=6", task=task)
    assert sorted(runs) == [1, 2]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 6
    for trial in study.trials:
        assert trial.value == trial.params["n"]
        if "reused_from" in trial.user_attrs:
            source = study.trials[trial.user_attrs["reused_from"]]
            assert source.params == trial.params
            assert "reused_from" not in source.user_attrs
    assert sum("reused_from" in trial.user_attrs for trial in study.trials) == 4
    assert "reused from" in capfd.readouterr().out
    # Not even by a process that comes later.
    sweep("x=0", "n=1,2", "num_trials=8", task=task)
    assert len(runs) == 2


def test_a_pruned_point_is_reused_with_its_reports(sweep):
    threshold = ("pruner._target_=optuna.pruners.ThresholdPruner", "+pruner.upper=1.5")
    study = sweep(*threshold, "num_reports=3", "x=0", "n=1,2", "num_trials=6")
    again = [t for t in study.trials if "reused_from" in t.user_attrs]
    pruned = [t for t in again if t.state is TrialState.PRUNED]
    assert pruned
    for trial in again:
        source = study.trials[trial.user_attrs["reused_from"]]
        assert trial.state is source.state
        assert trial.intermediate_values == source.intermediate_values


def test_a_failed_point_is_run_again(sweep):
    runs = []

    def task(cfg):
        runs.append(cfg.n)
        if len(runs) == 1:
            raise ValueError("once")
        return cfg.n

    rate = "hydra.sweeper.max_failure_rate=1"
    study = sweep("x=0", "n=choice(1)", "num_trials=1", rate, task=task)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert runs == [1, 1]


def test_a_point_is_the_mean_of_several_seeds(sweep, workspace):
    seen = []

    def task(cfg):
        seen.append((cfg.trial.number, cfg.trial.repeat, cfg.trial.num_repeats, cfg.seed))
        return cfg.n + cfg.seed

    study = sweep("hydra.sweeper.num_seeds=3", "seed=5", "num_trials=2", task=task)
    assert seen == [
        (0, 0, 3, 5),
        (0, 1, 3, 6),
        (0, 2, 3, 7),
        (1, 0, 3, 5),
        (1, 1, 3, 6),
        (1, 2, 3, 7),
    ]
    for trial in study.trials:
        n = trial.params["n"]
        assert trial.value == n + 6
        assert trial.user_attrs["repeats"] == [[n + 5], [n + 6], [n + 7]]
        assert trial.user_attrs["spread"] == [1.0]
    for folder in ("trial-0", "trial-0/seed-1", "trial-0/seed-2"):
        text = (workspace / "sweeps" / "toy" / folder / ".hydra" / "config.yaml").read_text()
        assert f"seed: {5 + int(folder[-1]) if 'seed' in folder else 5}" in text


def test_seeds_need_a_key_to_vary(sweep):
    with pytest.raises(SweepError, match=r"^name=None: hydra.sweeper.num_seeds=2 needs a whole"):
        sweep("hydra.sweeper.num_seeds=2", "hydra.sweeper.seed_key=name")


def test_a_trial_that_fails_at_a_later_seed_has_failed(sweep, load_study):
    def task(cfg):
        if cfg.trial.repeat == 1:
            raise FloatingPointError("loss is nan")
        return 1.0

    with pytest.raises(SweepError, match=r"^1 trial failed, more than"):
        sweep("hydra.sweeper.num_seeds=2", "num_trials=1", task=task)
    trial = load_study().trials[0]
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["failure_kind"] == "not finite"
