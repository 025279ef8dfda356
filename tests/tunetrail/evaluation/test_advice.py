"""Advice is a change that the run's own config takes."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from toys import ROOT

from tunetrail.config.checks import require_settings
from tunetrail.evaluation.advice import Advice, advise, read_settings
from tunetrail.evaluation.fit import Fit, Verdict
from tunetrail.training.evaluations import Evaluation

SIZES = {"train": 1000, "validation": 1000}
AVAILABLE = {"train": 30_000, "validation": 2000}
FIT = Fit(
    verdict=Verdict.GOOD,
    gap=0.1,
    gap_noise=0.12,
    gap_usual=0.05,
    loss_rise=0.1,
    loss_rise_noise=0.15,
    loss_fall=0.1,
    has_gap=False,
    has_turned=False,
    beats_baseline=True,
    train_beats_baseline=True,
    lowest=Evaluation(2, 126, 2.0, {}, {}),
    begins=None,
)


@pytest.fixture(autouse=True)
def _config_dir() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def give(*overrides: str, available: dict[str, int] | None = None, **fit: Any) -> Advice:
    """Give advice to a run, and check that its own config takes what is advised."""
    cfg = compose("config", overrides=[*overrides])
    settings = read_settings(cfg, sizes=SIZES, available=available or AVAILABLE)
    advice = advise(replace(FIT, **fit), settings, num_steps=15, num_evaluations=1)
    if advice.override:
        changed = compose("config", overrides=[*overrides, advice.override])
        # A name of its own for each run: no study is composed here.
        changed.study = "s"
        require_settings(changed)
        key, _, value = advice.override.partition("=")
        assert str(OmegaConf.select(cfg, key)) != value
    return advice


STEPS = ("trainer=smoke",)


@pytest.mark.parametrize(
    ("overrides", "fit", "override"),
    [
        ((), {"verdict": Verdict.GOOD}, ""),
        ((), {"verdict": Verdict.OVERFITTING, "has_turned": True}, "trainer.num_train_epochs=2"),
        (STEPS, {"verdict": Verdict.OVERFITTING, "has_turned": True}, "trainer.max_steps=126"),
        (
            # The untuned model has the lowest loss.
            (),
            {"verdict": Verdict.OVERFITTING, "has_turned": True,
             "lowest": Evaluation(0, 0, 0.0, {}, {})},
            "trainer.learning_rate=3e-05",
        ),
        (
            # No evaluation would be left before its end.
            ("+trainer.eval_delay=2",),
            {"verdict": Verdict.OVERFITTING, "has_turned": True},
            "trainer.learning_rate=3e-05",
        ),
        ((), {"verdict": Verdict.OVERFITTING}, "data.num_train=2000"),
        (("data.num_train=null",), {"verdict": Verdict.OVERFITTING}, "trainer.weight_decay=0.05"),
        (("data.per_label=8",), {"verdict": Verdict.OVERFITTING}, "trainer.weight_decay=0.05"),
        (
            ("data.num_train=null", "trainer.weight_decay=0.3"),
            {"verdict": Verdict.OVERFITTING},
            "trainer.learning_rate=5e-05",
        ),
        ((), {"verdict": Verdict.UNDERFITTING}, "trainer.num_train_epochs=6"),
        (STEPS, {"verdict": Verdict.UNDERFITTING}, "trainer.max_steps=16"),
        ((), {"verdict": Verdict.UNSTABLE}, "trainer.learning_rate=3e-05"),
        (("trainer.learning_rate=1e-6",), {"verdict": Verdict.UNSTABLE}, ""),
        ((), {"verdict": Verdict.TOO_SHORT}, "trainer.num_train_epochs=21"),
        (STEPS, {"verdict": Verdict.TOO_SHORT}, "trainer.max_steps=56"),
        ((), {"verdict": Verdict.UNCLEAR}, "diagnostics.num_train_sample=648"),
        (
            ("diagnostics.num_train_sample=1000",),
            {"verdict": Verdict.UNCLEAR},
            "data.num_validation=2000",
        ),
        ((), {"verdict": Verdict.UNCLEAR, "gap": 0.0}, "data.num_validation=2000"),
        (
            (),
            {"verdict": Verdict.NO_BETTER_THAN_BASELINE, "train_beats_baseline": False},
            "trainer.learning_rate=0.0003",
        ),
        ((), {"verdict": Verdict.NO_BETTER_THAN_BASELINE}, "data.num_train=2000"),
    ],
)  # fmt: skip
def test_advice_names_a_key_and_a_value(
    overrides: tuple[str, ...], fit: dict[str, Any], override: str
) -> None:
    advice = give(*overrides, **fit)
    assert advice.override == override
    assert str(advice).endswith(override)
    assert "\n" not in str(advice)


def test_where_all_rows_are_used_no_more_are_asked_for() -> None:
    advice = give(available=SIZES, verdict=Verdict.OVERFITTING)
    assert advice.override == "trainer.weight_decay=0.05"
    split_off = ("data.num_validation=null", "data.validation_fraction=0.1")
    advice = give(*split_off, available=SIZES, verdict=Verdict.UNCLEAR, gap=0.0)
    assert advice.override == "data.validation_fraction=0.2"
