"""The winner of a study, marked where a person looks: in the names and tags of its runs."""

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tunetrail.templates import names
from tunetrail.tracking.store import not_vital
from tunetrail.tracking.tags import PARENT, TRIAL, WINNER


def mark_winner(
    client: MlflowClient, experiment_id: str, parents: list[str], number: int | None
) -> None:
    """Mark the runs of the trial that has won, in the search and in the finals, and no others.

    Args:
        client: of the store.
        experiment_id: of the study.
        parents: the runs of the study and of its finals.
        number: of the trial in the search; None if none has won.

    """

    def find(parent: str, tag: str, value: object) -> list[Run]:
        condition = f"tags.`{PARENT}` = '{parent}' and tags.`{tag}` = '{value}'"
        return list(client.search_runs([experiment_id], condition, max_results=1_000))

    with not_vital("the mark of the winner"):
        for parent in parents:
            won = [] if number is None else find(parent, TRIAL, number)
            known = {run.info.run_id for run in won}
            for run in find(parent, WINNER, "true"):
                if run.info.run_id not in known:
                    name = run.info.run_name.removeprefix(names.WINNER)
                    client.update_run(run.info.run_id, name=name)
                    client.delete_tag(run.info.run_id, WINNER)
            for run in won:
                if WINNER not in run.data.tags:
                    name = names.WINNER + run.info.run_name.removeprefix(names.WINNER)
                    client.update_run(run.info.run_id, name=name)
                    client.set_tag(run.info.run_id, WINNER, "true")
