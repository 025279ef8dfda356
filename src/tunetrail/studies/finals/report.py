"""The winner of a study in words: the section of its report, and a few lines on the console."""

from collections.abc import Mapping, Sequence

from tunetrail.data.reporting import markdown_table
from tunetrail.studies.finals.conclusion import DEFAULT, Comparison, Conclusion
from tunetrail.studies.finals.finalists import Field, Finalist

_SEEDS_ARE_FRESH = (
    "The rows are those that the search chose its points on; the seeds are fresh. So luck with a "
    "seed is out of these means, luck with the rows is not: the winner was chosen on these rows "
    "and the default config was not, and a small lead on them proves less than its p value says."
)
_ONE_SEED = (
    "One seed each: how much another seed would have changed is not in these numbers. "
    "`sweep.final_seeds=3` would show it."
)
_LAST_SEED = (
    "Measured are the weights of the last seed. They were not chosen among the seeds, so this is "
    "an estimate for the recipe, not for the luckiest of its runs."
)


def write_winner(conclusion: Conclusion) -> str:
    """Write the section of the report."""
    winner, field = conclusion.winner, conclusion.field
    blocks = [
        [f"## Winner: {winner.name}"],
        [
            f"{field.objective} **{_with_spread(winner)}** over {_seeds(winner)}.",
            *([_optimism(field)] if _optimism(field) else []),
        ],
        _finalists_table(field),
        [f"MLflow run of its last seed: `{conclusion.run_id}`"],
        *_test(conclusion),
        *_verdicts(conclusion),
        *_registered(conclusion),
        [f"- {note}" for note in conclusion.notes],
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def write_no_winner(field: Field) -> str:
    """Write the section where no finalist is one to use."""
    return "\n\n".join(
        "\n".join(lines)
        for lines in (["## Winner: none"], [_why_none(field)], _finalists_table(field))
        if lines
    )


def say_no_winner(field: Field) -> list[str]:
    return [f"winner       none: {_why_none(field)}"]


def say_winner(conclusion: Conclusion) -> list[str]:
    """Say in a line each what a person wants to know when the study ends."""
    winner, field = conclusion.winner, conclusion.field
    value = f"{_with_spread(winner)} over {_seeds(winner)} ({winner.searched:.4f} in the search)"
    lines = [f"winner       {winner.name}: {field.objective} {value}"]
    if conclusion.test is not None:
        test, shown = conclusion.test, []
        for name, interval in test.intervals.items():
            shown.append(f"{name.replace('_', ' ')} {test.metrics[name]:.4f} {interval}")
        looks = "" if conclusion.num_looks <= 1 else f", look {conclusion.num_looks} at it"
        lines.append(f"test         {', '.join(shown[:2])}; {test.num_rows:,} rows{looks}")
    splits = {one.split for one in conclusion.comparisons if one.against != DEFAULT}
    shown_split = "test" if "test" in splits else "validation"
    lines += [
        f"against      {_verdict(one)}"
        for one in conclusion.comparisons
        if one.against == DEFAULT or one.split == shown_split
    ]
    if conclusion.registered is not None:
        found = conclusion.registered
        lines.append(
            f"registered   {found.name} version {found.version}, {found.alias}: {found.reason}"
        )
    return lines + [f"left out     {note}" for note in conclusion.notes]


def list_verdicts(comparisons: Sequence[Comparison]) -> list[str]:
    """Word each comparison as a list item."""
    return [f"- {_verdict(one)}" for one in comparisons]


def explain_verdicts(main_metric: str) -> str:
    """Say what the numbers of :func:`list_verdicts` are."""
    return (
        f"Differences in {main_metric} on the same rows, with 95 % intervals and two-sided p "
        "values: of one seed by a bootstrap and a sign-flip permutation test of the rows, of "
        "several by Student's t, with rows and seeds as two sources of noise. More than noise: "
        "the interval excludes 0."
    )


def _why_none(field: Field) -> str:
    if not field.finalists:
        return "no finalist completed"
    return "no finalist meets the constraints on fresh seeds"


def _finalists_table(field: Field) -> list[str]:
    if not field.finalists:
        return []
    rows = []
    for one in field.finalists:
        values = ", ".join(f"{value:.4f}" for value in one.scores)
        broken = "" if one.meets_constraints else "; breaks a constraint"
        rows.append(
            [
                f"{one.name}{broken}",
                f"{one.searched:.4f}",
                f"{one.mean:.4f}",
                "" if one.std is None else f"{one.std:.4f}",
                values,
            ]
        )
    return markdown_table(["finalist", "in the search", "mean", "std", "each seed"], rows)


def _optimism(field: Field) -> str:
    """Say how far the search overrated the winner; nothing where it did not choose it."""
    assert field.winner is not None
    surplus = field.optimism(field.winner)
    if surplus <= 0 or field.winner.is_default:
        return ""
    return (
        f"The search had said {field.winner.searched:.4f}, which is {surplus:.4f} better: the best "
        "of many scores is partly luck."
    )


def _test(conclusion: Conclusion) -> list[list[str]]:
    test = conclusion.test
    if test is None:
        return []
    rows = [
        [name.replace("_", " "), f"{test.metrics[name]:.4f}", f"{low.low:.4f} to {low.high:.4f}"]
        for name, low in test.intervals.items()
    ]
    return [
        ["### On the test split"],
        markdown_table(["", "score", "95 % interval"], rows),
        [f"{test.num_rows:,} rows. {_LAST_SEED} {_looks(conclusion)}"],
    ]


def _looks(conclusion: Conclusion) -> str:
    if conclusion.all_scored_test:
        return (
            "With `score_test=true` every run of this study was measured on test, not the winner "
            "alone; nothing was chosen by it as long as nobody chooses by it."
        )
    if conclusion.num_looks == 1:
        return "No other model of this study was measured on it."
    return (
        f"This study has looked at it {conclusion.num_looks} times: it went on, and had another "
        "winner each time. Whoever takes the best of several looks takes luck with it."
    )


def _verdicts(conclusion: Conclusion) -> list[list[str]]:
    if not conclusion.comparisons and not conclusion.winner.is_default:
        return []
    lines = list_verdicts(conclusion.comparisons)
    if conclusion.winner.is_default:
        lines.insert(0, "- The winner is the default config: the search has found nothing better.")
    blocks = [["### Is it more than noise?"], lines, [explain_verdicts(conclusion.main_metric)]]
    if any(one.against == DEFAULT for one in conclusion.comparisons):
        blocks.append([_SEEDS_ARE_FRESH])
    if len(conclusion.winner.scores) == 1:
        blocks.append([_ONE_SEED])
    return blocks


def _verdict(one: Comparison) -> str:
    found = one.result
    said = (
        "better than"
        if found.is_better
        else "worse than"
        if found.is_worse
        else "no different from"
    )
    more = "by more than noise" if found.is_better or found.is_worse else "beyond noise"
    seeds = "" if found.num_seeds == 1 else f", {found.num_seeds} seeds"
    return f"{said} {one.against} {more}: {found} ({found.num_rows:,} {one.split} rows{seeds})"


def _registered(conclusion: Conclusion) -> list[list[str]]:
    found = conclusion.registered
    if found is None:
        return []
    version = f"`{found.name}` version {found.version}, alias `{found.alias}`: {found.reason}."
    command = f"Use it: `tunetrail predict {found.name}@{found.alias} 'a text'`"
    return [["### In the registry"], [version, command]]


def _with_spread(one: Finalist) -> str:
    return f"{one.mean:.4f}" + ("" if one.std is None else f" ± {one.std:.4f}")


def _seeds(one: Finalist) -> str:
    return f"{len(one.scores)} fresh seed" + ("" if len(one.scores) == 1 else "s")


def list_params(params: Mapping[str, object]) -> list[str]:
    """Lay out parameters as a table."""
    return markdown_table(
        ["parameter", "value"], [[f"`{key}`", f"`{value}`"] for key, value in params.items()]
    )
