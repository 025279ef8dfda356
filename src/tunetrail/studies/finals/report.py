"""The winner of a study in words: the section of its report, and a few lines on the console."""

from tunetrail.data.columns import count_of
from tunetrail.errors import InputError
from tunetrail.studies.finals.conclusion import DEFAULT, Conclusion, TestRecord, WinnerComparison
from tunetrail.studies.finals.finalists import Finalist, FinalsResult
from tunetrail.studies.finals.worth import describe_verdict, describe_worth
from tunetrail.templates import render, short


def write_winner(conclusion: Conclusion) -> str:
    """Write the section of the report."""
    winner, result = conclusion.winner, conclusion.result
    return render(
        "winner",
        conclusion=conclusion,
        result=result,
        score=_with_spread(winner),
        seeds=_seeds(winner),
        finalists=_finalist_rows(result),
        test_scores=list_scores(conclusion.test),
        worth=_describe_worth(conclusion),
        verdicts=[describe_comparison(one, conclusion.gain) for one in conclusion.comparisons],
        is_compared_with_default=any(one.against == DEFAULT for one in conclusion.comparisons),
    )


def write_no_winner(result: FinalsResult) -> str:
    """Write the section for a study in which no finalist can be used."""
    return render(
        "winner", conclusion=None, reason=_why_none(result), finalists=_finalist_rows(result)
    )


def summarise_no_winner(result: FinalsResult) -> list[str]:
    return [f"winner       none: {_why_none(result)}"]


def require_winner(result: FinalsResult) -> None:
    """Refuse finals in which no finalist has won.

    Raises:
        InputError: why, which finalist is nearest to the constraints, and what to change.

    """
    if result.winner is None:
        remedy = (
            "raise sweep.finalists, or relax sweep.constraints in a new study (study=NAME)"
            if result.finalists
            else "see above how they ended"
        )
        raise InputError(
            f"the study has no winner: {_why_none(result)}; {remedy}; sweep.final_seeds=0 asks for "
            "none"
        )


def summarise_winner(conclusion: Conclusion) -> list[str]:
    """Summarise the winner for the console, a line for each fact."""
    winner, result = conclusion.winner, conclusion.result
    value = f"{_with_spread(winner)} over {_seeds(winner)} ({winner.searched:.4f} in the search)"
    lines = [f"winner       {winner.name}: {result.objective} {value}"]
    lines += [f"worth        {line}" for line in _describe_worth(conclusion)]
    compared = {
        DEFAULT if one.against.is_default else one.against.name
        for one in conclusion.worths
        if one.finalist is winner
    }
    if conclusion.test is not None:
        shown = ", ".join(" ".join(row) for row in list_scores(conclusion.test)[:2])
        looks = conclusion.num_looks
        more = f", on which {looks} models of this study were scored" if looks > 1 else ""
        lines.append(f"test         {shown}; {conclusion.test.num_rows:,} rows{more}")
    known = {DEFAULT, *(one.name for one in result.references)}
    splits = {one.split for one in conclusion.comparisons if one.against not in known}
    shown_split = "test" if "test" in splits else "validation"
    lines += [
        f"against      {describe_comparison(one, conclusion.gain)}"
        for one in conclusion.comparisons
        if (one.against in known and one.against not in compared)
        or (one.against not in known and one.split == shown_split)
    ]
    if conclusion.registered is not None:
        found = conclusion.registered
        lines.append(
            f"registered   {found.name} version {found.version}, {found.alias}: {found.reason}"
        )
    return lines + [f"left out     {note}" for note in conclusion.notes]


def list_scores(test: TestRecord | None) -> list[tuple[str, str, str]]:
    """List name, score and 95 % interval of each metric on test."""
    if test is None:
        return []
    return [
        (name.replace("_", " "), f"{test.metrics[name]:.4f}", str(interval))
        for name, interval in test.intervals.items()
    ]


def describe_comparison(one: WinnerComparison, gain: str) -> str:
    """Say in one line how the winner compares, with its gain, interval and p value.

    Args:
        gain: its name.

    """
    found, verdict = one.result, describe_verdict(one.result, one.against)
    seeds = "" if found.num_seeds == 1 else f", {found.num_seeds} seeds"
    return f"{verdict}: {gain} {found} ({found.num_rows:,} {one.split} rows{seeds})"


def _why_none(result: FinalsResult) -> str:
    if not result.finalists:
        return "no finalist completed"
    nearest = result.finalists[0]
    broken = ", ".join(f"{name} by {short(value)}" for name, value in nearest.violations.items())
    return (
        "no finalist meets the constraints on fresh seeds; the nearest, "
        f"{nearest.name}, violates {broken}"
    )


def _describe_worth(conclusion: Conclusion) -> list[str]:
    return describe_worth(
        conclusion.result,
        conclusion.worths,
        conclusion.main_metric,
        greater_is_better=conclusion.greater_is_better,
    )


def _finalist_rows(result: FinalsResult) -> list[list[str]]:
    return [
        [
            one.name if one.meets_constraints else f"{one.name}; breaks a constraint",
            f"{one.searched:.4f}",
            f"{one.mean:.4f}",
            "" if one.std is None else f"{one.std:.4f}",
            ", ".join(f"{value:.4f}" for value in one.scores),
        ]
        for one in result.finalists
    ]


def _with_spread(one: Finalist) -> str:
    return f"{one.mean:.4f}" + ("" if one.std is None else f" ± {one.std:.4f}")


def _seeds(one: Finalist) -> str:
    return count_of(len(one.scores), "seed" if one.carried else "fresh seed")
