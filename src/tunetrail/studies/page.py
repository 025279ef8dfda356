"""The page of a study: its report for a browser, with its figures, the winner first."""

from collections import Counter
from collections.abc import Mapping, Sequence

import optuna
from matplotlib.figure import Figure

from hydra_plugins.optuna_study import attributes
from tunetrail.studies.ranking import find_best
from tunetrail.studies.states import number_of, seconds_of, state_of
from tunetrail.templates import short
from tunetrail.templates.markdown import read_sections
from tunetrail.templates.sections import Fact, Page, Section

FINALS = "figures/finals.png"
# How the section on the winner begins, which stands first in a report.
_WINNER = "Winner: "
_CAPTIONS = {
    "figures/fits.png": "How each trial fits, over the numbers that were searched: the larger a "
    "mark, the wider the gap between train and validation.",
    "figures/costs.png": "The score of each trial over the weights that it trains, and its time.",
    "figures/forgetting.png": "The score of each trial over what it forgot: the further left, the "
    "less.",
}


def build_study_page(
    study: optuna.Study, objectives: Sequence[str], report: str, figures: Mapping[str, Figure]
) -> Page:
    """Put the page of a study together.

    Args:
        objectives: names of the study's values, in order.
        report: as :func:`write_report` wrote it.
        figures: name of an artifact -> figure. That of the finals stands with the winner.

    """
    head, *sections = read_sections(report)
    drawn = {path: figure for path, figure in figures.items() if path != FINALS}
    if sections and sections[0].title.startswith(_WINNER) and FINALS in figures:
        first = sections[0]
        shown = [
            ("Each finalist: its seeds, their mean, and its score in the search.", figures[FINALS])
        ]
        sections[0] = Section(first.title, first.sentence, first.tables, shown, [FINALS])
    if drawn:
        about = "What the search has shown; `figures/study.html` has figures to hover over."
        named = [(_describe(path), figure) for path, figure in drawn.items()]
        # After what a person asks first: the winner, how the trials ended, and the best.
        place = next(
            (n for n, one in enumerate(sections) if one.title.startswith(("Best:", "Nearest:"))), -1
        )
        sections.insert(place + 1, Section("Figures", about, figures=named, files=[*drawn]))
    facts = _list_facts(study, objectives)
    if sections and sections[0].title.startswith(_WINNER):
        name, said = sections[0].title.removeprefix(_WINNER), sections[0].sentence
        score = (line for line in said.splitlines() if line.startswith(f"{objectives[0]} "))
        facts = [Fact("winner", name, next(score, said.partition("\n")[0])), *facts]
    return Page(head.title, head.sentence, facts, sections)


def _list_facts(study: optuna.Study, objectives: Sequence[str]) -> list[Fact]:
    trials, best = study.get_trials(deepcopy=False), find_best(study)
    counts = Counter(state_of(trial) for trial in trials)
    ended = ", ".join(f"{number} {state}" for state, number in counts.most_common())
    hours = sum(seconds_of(trial) or 0.0 for trial in trials) / 3600
    facts = [Fact("trials", f"{len(trials):,}", ended), Fact("hours of trials", f"{hours:.2f}")]
    if best is None:
        return [Fact("best", "none", "no trial can be used", "bad"), *facts]
    of_finals = attributes.FINAL_OF in study.user_attrs
    where = f"trial {number_of(best)}" + (" in the finals" if of_finals else " in the search")
    return [
        *(
            Fact(f"{name}, best trial", short(float(value)), where)
            for name, value in zip(objectives, best.values, strict=True)
        ),
        *facts,
    ]


def _describe(path: str) -> str:
    name = path.rpartition("/")[2].removesuffix(".png").removeprefix("over_")
    return _CAPTIONS.get(path, f"The score of the trials over {name}.")
