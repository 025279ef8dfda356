"""What a study minimises or maximises: a mapping, or what a function makes of the config."""

import pytest
from omegaconf import OmegaConf

from hydra_plugins.optuna_study._errors import SweepError

FUNCTION = f"hydra.sweeper.objectives={__name__}.minimise_all"
SEEN = []


def minimise_all(config):
    SEEN.append(OmegaConf.to_container(config, resolve=True))
    return dict.fromkeys(config.names, "minimize")


def refuse(config):
    raise ValueError(f"names={config.names}: no such metric\nin two lines")


def answer_wrongly(config):
    return {"score": "down"}


def test_a_function_gives_the_objectives_of_the_config_without_the_search(sweep):
    SEEN.clear()
    study = sweep(FUNCTION, "names=[score]", "num_trials=2", "n=1")
    assert study.user_attrs["objectives"] == {"score": "minimize"}
    assert study.best_value == min(trial.value for trial in study.trials)
    (config,) = SEEN
    assert (config["x"], config["n"]) == (0.0, 1)
    assert "hydra" not in config


def test_a_function_may_give_several(sweep, capfd):
    study = sweep(FUNCTION, "names=[score,minus_x]", "num_trials=2", "n=0")
    assert [direction.name for direction in study.directions] == ["MINIMIZE"] * 2
    assert len(study.trials[0].values) == 2
    assert ["trial", "score", "minus_x", "x", "time"] in [
        line.split() for line in capfd.readouterr().out.splitlines()
    ]


def test_a_study_continues_with_the_same_objectives_only(sweep):
    for num_trials in (1, 2):
        study = sweep(FUNCTION, "names=[score]", f"num_trials={num_trials}")
        assert len(study.trials) == num_trials
    with pytest.raises(SweepError, match=r"they were .*'score'.*, are .*'minus_x'"):
        sweep(FUNCTION, "names=[score,minus_x]", "num_trials=3")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("refuse", "names=None: no such metric"),
        ("answer_wrongly", "answer_wrongly: it returned {'score': 'down'}; return names with"),
        ("missing", "missing: no such function"),
    ],
)
def test_a_function_that_cannot_be_used_ends_the_sweep_in_one_line(sweep, function, message):
    with pytest.raises(SweepError) as caught:
        sweep(f"hydra.sweeper.objectives={__name__}.{function}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
