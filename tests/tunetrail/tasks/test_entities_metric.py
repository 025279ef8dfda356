"""The metric of entities gives seqeval's numbers, offline."""

import random
from pathlib import Path

import evaluate
import pytest
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score

from tunetrail.tasks.metrics.entities import entities

TAGS = ["O", "B-a", "I-a", "B-geo-loc", "I-geo-loc"]


def load() -> evaluate.EvaluationModule:
    return evaluate.load(str(Path(entities.__file__)), keep_in_memory=True)


def test_scores_of_a_hand_made_case() -> None:
    scores = load().compute(
        references=[["B-a", "I-a", "O", "B-geo-loc"], ["O", "B-a"]],
        predictions=[["B-a", "I-a", "O", "B-a"], ["O", "O"]],
    )
    # Of three entities one is found, of two that are found one is there.
    assert scores == pytest.approx(
        {"f1": 0.4, "precision": 1 / 2, "recall": 1 / 3, "token_accuracy": 4 / 6}
    )


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_random_tags_are_those_of_seqeval(seed: int) -> None:
    draw = random.Random(seed)
    references = [draw.choices(TAGS, k=draw.randrange(1, 15)) for _ in range(30)]
    predictions = [
        [tag if draw.random() < 0.7 else draw.choice(TAGS) for tag in tags] for tags in references
    ]
    assert load().compute(references=references, predictions=predictions) == pytest.approx(
        {
            "f1": f1_score(references, predictions),
            "precision": precision_score(references, predictions),
            "recall": recall_score(references, predictions),
            "token_accuracy": accuracy_score(references, predictions),
        }
    )


def test_no_entity_at_all_scores_zero() -> None:
    scores = load().compute(references=[["O"]], predictions=[["O"]])
    assert scores == {"f1": 0, "precision": 0, "recall": 0, "token_accuracy": 1}
