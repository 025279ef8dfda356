"""The winner of finals, and the report on it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from tunetrail.errors import InputError
from tunetrail.evaluation.power import Power
from tunetrail.evaluation.statistics import Interval, PairedTest
from tunetrail.studies.finals.conclusion import DEFAULT, Conclusion, TestRecord, WinnerComparison
from tunetrail.studies.finals.finalists import Finalist, FinalsResult, collect_result
from tunetrail.studies.finals.plots import plot_finals
from tunetrail.studies.finals.report import (
    require_winner,
    summarise_winner,
    write_no_winner,
    write_winner,
)
from tunetrail.studies.finals.worth import Worth, describe_worth, list_pairs
from tunetrail.tracking.registry import Registered

ACCURACY = "validation/accuracy"
LEVELS = {"worse": (-0.3, -0.1), "same": (-0.1, 0.1), "better": (0.1, 0.3)}


def add(study: optuna.Study, value: float, **attrs: object) -> None:
    study.add_trial(
        create_trial(
            params={"rate": 0.5},
            distributions={"rate": FloatDistribution(0, 1)},
            value=value,
            constraints=attrs.pop("constraints", None),  # type: ignore[arg-type]
            user_attrs=attrs,
        )
    )


def studies(direction: str = "maximize") -> tuple[optuna.Study, optuna.Study]:
    study = optuna.create_study(direction=direction)
    add(study, 0.6, enqueued="default")
    add(study, 0.9)
    add(study, 0.8)
    finals = optuna.create_study(direction=direction)
    for values in ([0.5, 0.7], [0.6, 0.7], [0.8, 0.7]):
        add(finals, sum(values) / 2, repeats=[[value] for value in values])
    return study, finals


def test_the_winner_has_the_best_mean_over_fresh_seeds() -> None:
    result = collect_result(*studies(), {1: 1, 2: 2, 0: 0}, objectives=(ACCURACY,))
    assert [one.number for one in result.finalists] == [2, 1, 0]
    assert result.winner is result.finalists[0]
    assert result.winner.mean == 0.75
    assert result.winner.std == pytest.approx(0.0707, abs=1e-4)
    assert result.default is result.finalists[2]
    assert result.winner.optimism == pytest.approx(0.05)


def test_less_may_be_better() -> None:
    loss = ("validation/loss",)
    result = collect_result(*studies("minimize"), {1: 1, 2: 2, 0: 0}, objectives=loss)
    assert [one.number for one in result.finalists] == [0, 1, 2]
    assert result.winner is result.default
    assert result.finalists[0].optimism == pytest.approx(0.0)


def test_the_first_objective_ranks_finalists_and_the_others_are_means_beside_it() -> None:
    study, finals = (optuna.create_study(directions=["maximize", "minimize"]) for _ in range(2))
    study.add_trial(create_trial(values=[0.9, 0.1]))
    repeats = [[0.7, 0.3], [0.9, 0.5]]
    finals.add_trial(create_trial(values=[0.8, 0.4], user_attrs={"repeats": repeats}))
    result = collect_result(study, finals, {0: 0}, objectives=(ACCURACY, "gap/loss"))
    assert result.objective == ACCURACY
    assert result.finalists[0].scores == (0.7, 0.9)
    assert result.finalists[0].others == (0.4,)


def test_only_the_present_finalists_can_win() -> None:
    """The study was continued: an earlier finalist is still in the finals."""
    result = collect_result(*studies(), {1: 1, 0: 0}, objectives=(ACCURACY,))
    assert [one.number for one in result.finalists] == [1, 0]


def test_a_finalist_that_violates_a_constraint_on_fresh_seeds_does_not_win() -> None:
    study, _ = studies()
    finals = optuna.create_study(direction="maximize")
    add(finals, 0.9, constraints={"gap": 0.2, "seconds": -1.0})
    add(finals, 0.7, constraints={"gap": 0.1, "seconds": -1.0})
    result = collect_result(study, finals, {1: 0, 2: 1}, objectives=(ACCURACY,))
    assert result.winner is None
    text = write_no_winner(result)
    assert "the nearest, trial 2, violates gap by 0.1\n" in text
    assert "| trial 1; breaks a constraint | 0.9000 | 0.9000 |  | 0.9000 |" in text


@pytest.mark.parametrize("again", ["retry_of", "reused_from"])
def test_the_default_is_known_if_it_was_run_again_or_reused(again: str) -> None:
    study = optuna.create_study(direction="maximize")
    if again == "retry_of":
        study.add_trial(
            create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"enqueued": "default"})
        )
        add(study, 0.5, retry_of=0)
    else:
        add(study, 0.5)
        add(study, 0.5, enqueued="default", reused_from=0)
    finals = optuna.create_study(direction="maximize")
    add(finals, 0.5)
    number = 1 if again == "retry_of" else 0
    result = collect_result(study, finals, {number: 0}, objectives=(ACCURACY,))
    assert result.default is result.winner


def paired(level: str, *, num_seeds: int = 2) -> PairedTest:
    low, high = LEVELS[level]
    return PairedTest((low + high) / 2, Interval(low, high), 0.0004, 1000, num_seeds)


def conclude(
    level: str, *, is_default: bool = False, looks: int = 1, num_seeds: int = 2
) -> Conclusion:
    scores = (0.71, 0.69)[:num_seeds]
    winner = Finalist(3, 1, 0.75, 0.05, scores, {"rate": 0.5}, is_default)
    other = Finalist(0, 0, 0.6, -0.01, (0.6, 0.62)[:num_seeds], {}, not is_default)
    compared = WinnerComparison(DEFAULT, "validation", paired(level, num_seeds=num_seeds))
    names = ("accuracy", "macro_f1")
    return Conclusion(
        result=FinalsResult((ACCURACY,), greater_is_better=True, finalists=(winner, other)),
        winner=winner,
        run_id="run7",
        main_metric="accuracy",
        greater_is_better=True,
        comparisons=(
            *(() if is_default else (compared,)),
            WinnerComparison("the majority class (a)", "test", paired("better", num_seeds=1)),
            WinnerComparison("the majority class (a)", "validation", paired("better")),
        ),
        test=TestRecord(
            {"loss": 0.5, "accuracy": 0.7, "macro_f1": 0.6},
            {name: Interval(0.5, 0.9) for name in names},
            1000,
            "f",
            0.8,
        ),
        num_looks=looks,
        all_scored_test=False,
        registered=Registered("tweets", 3, "challenger", "there is a better one"),
        notes=("something: not there",),
        worths=(),
    )


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("better", "better than the default config by more than noise: gain in accuracy +0.2000"),
        ("worse", "worse than the default config by more than noise: gain in accuracy -0.2000"),
        ("same", "no different from the default config beyond noise: gain in accuracy +0.0000"),
    ],
)
def test_the_verdict_is_that_of_the_interval(level: str, said: str) -> None:
    conclusion = conclude(level)
    assert said in write_winner(conclusion)
    assert any(said in line for line in summarise_winner(conclusion))


def test_the_report_holds_scores_intervals_verdicts_and_the_version() -> None:
    text = write_winner(conclude("better"))
    for said in (
        "## Winner: trial 3",
        "validation/accuracy **0.7000 ± 0.0141** over 2 fresh seeds.",
        "0.7500, which is 0.0500 better",
        "| trial 3 | 0.7500 | 0.7000 | 0.0141 | 0.7100, 0.6900 |",
        "| the default config (trial 0) | 0.6000 | 0.6100 | 0.0141 | 0.6000, 0.6200 |",
        "| accuracy | 0.7000 | [0.5000, 0.9000] |",
        "1,000 rows. ",
        "[+0.1000, +0.3000], p < 0.001 (1,000 validation rows, 2 seeds)",
        "the winner was chosen on these rows",
        "`tweets` version 3, alias `challenger`: there is a better one.",
        "- something: not there",
    ):
        assert said in text
    assert "One seed each" not in text


def test_the_console_leaves_the_baselines_on_validation_to_the_report() -> None:
    said = summarise_winner(conclude("better"))
    assert [line.split()[0] for line in said] == [
        "winner", "test", "against", "against", "registered", "left",
    ]  # fmt: skip


def test_one_seed_more_test_scores_and_a_default_that_wins_are_reported() -> None:
    assert "One seed each" in write_winner(conclude("same", num_seeds=1))
    assert "2 models of this study were measured on it" in write_winner(conclude("same", looks=2))
    default = conclude("same", is_default=True)
    assert "the search found nothing with a better validation/accuracy" in write_winner(default)
    over = finalist(9, 0.9, violations={"gap": 0.1})
    result = replace(default.result, finalists=(*default.result.finalists, over))
    text = write_winner(replace(default, result=result))
    assert "found nothing that meets the constraints and has a better validation" in text


@pytest.mark.parametrize(
    ("finalists", "said"),
    [
        ((), "no finalist completed; see above"),
        ((("gap", 0.12),), "trial 4, violates gap by 0.12; raise sweep.finalists, or relax"),
    ],
)
def test_without_a_winner_the_reason_and_the_remedy_are_given(
    finalists: tuple[tuple[str, float], ...], said: str
) -> None:
    found = tuple(finalist(4, 0.9, violations={name: over}) for name, over in finalists)
    with pytest.raises(InputError) as caught:
        require_winner(FinalsResult((ACCURACY,), greater_is_better=True, finalists=found))
    assert said in str(caught.value)


def finalist(number: int, score: float, **kinds: Any) -> Finalist:
    given = {"is_default": False, **kinds}
    return Finalist(number, number, score, 0.0, (score, score), {}, **given)


DEFAULT_CONFIG = finalist(0, 0.70, is_default=True)
LIBRARY = finalist(1, 0.68, reference="library_defaults")


@pytest.mark.parametrize(
    ("found", "pairs"),
    [
        # The search has won: it is compared with both.
        ([finalist(5, 0.8)], [(5, 0), (5, 1)]),
        # The default has: the search still has to say what it bought.
        ([finalist(5, 0.6)], [(5, 0), (0, 1)]),
        ([], [(0, 1)]),
        ([finalist(5, 0.9, violations={"gap": 0.1}), finalist(6, 0.75)], [(6, 0), (6, 1)]),
    ],
)
def test_what_is_compared_to_say_what_the_search_bought(
    found: list[Finalist], pairs: list[tuple[int, int]]
) -> None:
    ranked = sorted(
        [DEFAULT_CONFIG, LIBRARY, *found], key=lambda one: (not one.meets_constraints, -one.mean)
    )
    result = FinalsResult((ACCURACY,), greater_is_better=True, finalists=tuple(ranked))
    assert [(one.number, known.number) for one, known in list_pairs(result)] == pairs
    said = describe_worth(result, [], "accuracy", greater_is_better=True)
    assert said == [] if found else said[0].startswith("The search bought nothing:")


def test_a_search_that_bought_nothing_says_so_first_and_what_would_show_more() -> None:
    winner = finalist(5, 0.71)
    result = FinalsResult(
        (ACCURACY,), greater_is_better=True, finalists=(winner, DEFAULT_CONFIG, LIBRARY)
    )
    worths = (
        Worth(winner, DEFAULT_CONFIG, paired("same"), Power(0.02, 1000, 2, None, 4), (80.0, 50.0)),
        Worth(winner, LIBRARY, paired("better"), Power(0.02, 1000, 2, 3000, 4), None),
    )
    conclusion = replace(conclude("same"), result=result, winner=winner, worths=worths)
    text = write_winner(conclusion)
    first = text.split("\n\n")[1]
    assert first.startswith("**The search bought nothing beyond noise over the default config")
    for said in (
        "80 s instead of 50 s (+30 s)",
        "1,000 rows and 2 seeds show a difference of 0.0200",
        "half of it needs 4 more seeds (sweep.final_seeds=6).",
        "The search bought more than noise over library defaults (trial 1): gain",
        "gain in accuracy +0.2000 [+0.1000, +0.3000]",
    ):
        assert said in text
    lines = summarise_winner(conclusion)
    assert [line.split()[0] for line in lines][:3] == ["winner", "worth", "worth"]


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("better", "bought more than noise over the default config (trial 0): {} +0.2000"),
        ("worse", "is worse than the default config (trial 0) by more than noise: {} -0.2000"),
        ("same", "bought nothing beyond noise over the default config (trial 0): {} +0.0000"),
    ],
)
def test_where_less_is_better_a_gain_is_no_rise(level: str, said: str) -> None:
    winner = finalist(5, 20.0)
    result = FinalsResult(
        ("validation/perplexity",), greater_is_better=False, finalists=(winner, DEFAULT_CONFIG)
    )
    conclusion = replace(
        conclude(level),
        result=result,
        winner=winner,
        main_metric="perplexity",
        greater_is_better=False,
        worths=(Worth(winner, DEFAULT_CONFIG, paired(level), None, None),),
        test=None,
    )
    gain = "gain in perplexity (lower is better)"
    assert said.format(gain) in write_winner(conclusion)
    assert f"by more than noise: {gain} +0.2000" in summarise_winner(conclusion)[-3]
    assert f"Each {gain} is a mean" in write_winner(conclusion)


@pytest.mark.parametrize(
    ("objectives", "goal", "scores"),
    [
        (("validation/macro_f1",), "validation/macro_f1", ("0.7100", "0.7000")),
        (
            (ACCURACY, "gap/loss"),
            "validation/accuracy and gap/loss",
            ("0.7100 and 0.1000", "0.7000 and 0.3000"),
        ),
    ],
)
def test_rows_give_no_verdict_on_a_search_for_something_else(
    objectives: tuple[str, ...], goal: str, scores: tuple[str, str]
) -> None:
    others = [(0.1,), (0.3,)] if len(objectives) > 1 else [(), ()]
    winner, default = (
        replace(one, others=means)
        for one, means in zip((finalist(5, 0.71), DEFAULT_CONFIG), others, strict=True)
    )
    result = FinalsResult(objectives, greater_is_better=True, finalists=(winner, default))
    worth = Worth(winner, default, paired("worse"), None, None)
    (said,) = describe_worth(result, [worth], "accuracy", greater_is_better=True)
    assert said.startswith(
        f"The search was for {goal}: trial 5 has {scores[0]}, the default config (trial 0) "
        f"{scores[1]}. In accuracy, "
    )
    assert "gain in accuracy -0.2000" in said
    assert "bought" not in said


def test_the_figure_shows_every_finalist(tmp_path: Path) -> None:
    figure = plot_finals(conclude("better").result)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["trial 3\n(winner)", "trial 0\n(default)"]
    figure.savefig(tmp_path / "finals.png")
