"""The figure of a study's finals."""

from matplotlib.figure import Figure

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.finals.finalists import FinalsResult

# Okabe and Ito's colours.
_WINNER, _OTHER, _SEARCH = "#D55E00", "#0072B2", "#555555"


def plot_finals(result: FinalsResult) -> Figure:
    """Draw a row for each finalist: seeds as dots, their mean, its value in the search."""
    finalists = result.finalists
    figure = Figure(figsize=(7.0, 1.9 + 0.55 * len(finalists)), layout="constrained")
    axes = figure.subplots()
    winner = result.winner
    for row, one in enumerate(finalists):
        colour = _WINNER if winner is not None and one.final == winner.final else _OTHER
        axes.plot(
            [one.searched, one.mean], [row, row], color=_SEARCH, linewidth=0.9, linestyle=":",
            zorder=1,
        )  # fmt: skip
        axes.plot(one.searched, row, "D", markersize=8, markerfacecolor="white",
                  markeredgecolor=_SEARCH, zorder=2, label="in the search")  # fmt: skip
        axes.scatter(one.scores, [row] * len(one.scores), s=42, color=colour, alpha=0.75,
                     linewidths=0, zorder=3)  # fmt: skip
        axes.plot([one.mean, one.mean], [row - 0.28, row + 0.28], color=colour, linewidth=2.6,
                  zorder=4)  # fmt: skip
    axes.scatter([], [], s=42, color=_SEARCH, alpha=0.75, linewidths=0, label="a seed")
    axes.plot([], [], color=_SEARCH, linewidth=2.6, label="mean of the seeds")
    axes.set_yticks(range(len(finalists)), [_label(result, row) for row in range(len(finalists))])
    axes.set_ylim(len(finalists) - 0.45, -0.55)  # the best on top
    axes.margins(x=0.08)
    axes.set_xlabel(
        f"{result.objective} ({'higher' if result.greater_is_better else 'lower'} is better)"
    )
    axes.grid(alpha=0.25, axis="x")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(
        unique.values(), unique.keys(), loc="outside lower center", ncols=3, frameon=False,
        fontsize="small",
    )  # fmt: skip
    figure.suptitle("Finalists, trained again")
    return figure


def _label(result: FinalsResult, row: int) -> str:
    one = result.finalists[row]
    marks = [
        *(["winner"] if result.winner is one else []),
        *(["default"] if one.is_default else []),
        *([attributes.name_reference(one.reference)] if one.reference else []),
        *([] if one.meets_constraints else ["breaks a constraint"]),
    ]
    return one.title + (f"\n({', '.join(marks)})" if marks else "")
