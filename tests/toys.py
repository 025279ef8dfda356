"""Small real parts: texts whose words decide their label, and runs that take a second or two."""

import json
import logging
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import pytest
from datasets import DatasetDict
from hydra.core.global_hydra import GlobalHydra
from transformers import PreTrainedModel

from tunetrail.models.methods.full import Full
from tunetrail.tasks.text_classification import TextClassification

ROOT = Path(__file__).resolve().parents[1]

_WORDS = {
    "negative": ["bad", "awful", "sad", "worst", "hate"],
    "neutral": ["table", "train", "paper", "cloud", "river"],
    "positive": ["good", "great", "happy", "best", "love"],
}
_FILLER = ["the", "a", "day", "we", "saw", "it", "was", "today", "and", "then"]


def make_rows(num_rows: int, *, seed: int = 0, noise: float = 0.0) -> list[tuple[str, str]]:
    """Make short texts with a label that two of their words decide, as (text, label)."""
    draw = random.Random(seed)
    rows = []
    for index in range(num_rows):
        label = sorted(_WORDS)[index % 3]
        chosen = label if draw.random() >= noise else draw.choice(sorted(_WORDS))
        words = draw.sample(_WORDS[chosen], 2) + draw.sample(_FILLER, 5)
        draw.shuffle(words)
        rows.append((" ".join([*words, str(index)]), label))
    return rows


_ENTITIES = {"person": ["anna", "bob mill", "carla"], "place": ["rome", "new york", "paris"]}


def make_tagged(num_rows: int, *, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """Make sentences with one or two entities in IOB2, as (tokens, tags); each fifth has none."""
    draw = random.Random(seed)
    rows = []
    for index in range(num_rows):
        parts = [(word, "") for word in draw.sample(_FILLER, 6)]
        for _ in range(index % 5 and draw.choice([1, 2])):
            type_ = draw.choice(sorted(_ENTITIES))
            parts.insert(draw.randrange(len(parts) + 1), (draw.choice(_ENTITIES[type_]), type_))
        tokens, tags = [str(index)], ["O"]
        for words, type_ in parts:
            split = words.split(" ")
            tokens += split
            tags += [f"{'I' if n else 'B'}-{type_}" if type_ else "O" for n in range(len(split))]
        rows.append((tokens, tags))
    return rows


def make_texts(num_rows: int, *, seed: int = 0) -> list[tuple[str]]:
    """Make texts without labels, as tuples of one."""
    return [(text,) for text, _ in make_rows(num_rows, seed=seed)]


def make_pairs(num_rows: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Make prompts of a word, and as completions the labels of their texts."""
    return [(text.split()[0], label) for text, label in make_rows(num_rows, seed=seed)]


CLASSIFY = TextClassification(max_length=64, padding="longest", main_metric="accuracy")


def canonical(
    rows: DatasetDict, text: str = "text", label: str = "label", names: list[Any] | None = None
) -> DatasetDict:
    """Rows of texts and labels as everything else reads them."""
    return CLASSIFY.canonicalise(rows, {"text": text, "label": label}, label_names=names)


def write_csv(path: Path, rows: list[tuple[str, str]], *, header: str = "text,label") -> Path:
    lines = [header, *(f'"{text}",{label}' for text, label in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_pairs(path: Path, rows: list[tuple[str, str]]) -> Path:
    return write_csv(path, rows, header="prompt,completion")


def write_conll(path: Path, rows: list[tuple[list[str], list[str]]]) -> Path:
    sentences = ["".join(f"{w}\t{t}\n" for w, t in zip(*row, strict=True)) for row in rows]
    path.write_text("\n".join(sentences), encoding="utf-8")
    return path


def write_lines(path: Path, rows: list[tuple[str]]) -> Path:
    path.write_text("".join(f"{text}\n" for (text,) in rows), encoding="utf-8")
    return path


def make_sets(num_rows: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Make short texts with a label for some of their words, or none, as (text, "a|b")."""
    draw = random.Random(seed)
    rows = []
    for index in range(num_rows):
        labels = [name for name in sorted(_WORDS) if (index + 1) % 4 and draw.random() < 0.5]
        words = [draw.choice(_WORDS[name]) for name in labels] + draw.sample(_FILLER, 5)
        draw.shuffle(words)
        rows.append((" ".join([*words, str(index)]), "|".join(labels)))
    return rows


def write_sets(path: Path, rows: list[tuple[str, str]]) -> Path:
    lines = [{"text": text, "labels": labels.split("|") if labels else []} for text, labels in rows]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def make_questions(num_rows: int, *, seed: int = 0) -> list[tuple[str, str, str]]:
    """Make contexts that say where two people are, as (context, question, answer)."""
    draw = random.Random(seed)
    rows = []
    for index in range(num_rows):
        people = draw.sample(_ENTITIES["person"], 2)
        said = [(who, draw.choice(_ENTITIES["place"])) for who in people]
        parts = [f"{who} was in {where} and" for who, where in said]
        who, where = draw.choice(said)
        rows.append(
            (" ".join([*parts, *draw.sample(_FILLER, 4), str(index)]), f"{who} was in", where)
        )
    return rows


def write_questions(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    lines = [
        {"question": question, "context": context,
         "answers": {"text": [answer], "answer_start": [context.index(answer)]}}
        for context, question, answer in rows
    ]  # fmt: skip
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


# Task of conf/task -> how its toy rows are made, how they are written, and to which kind of file.
# A new task needs a line here, and is then tested like the others.
TASK_ROWS: dict[str, tuple[Callable[..., list[Any]], Callable[..., Path], str]] = {
    "causal_lm": (make_texts, write_lines, "txt"),
    "masked_lm": (make_texts, write_lines, "txt"),
    "multi_label_classification": (make_sets, write_sets, "jsonl"),
    "question_answering": (make_questions, write_questions, "jsonl"),
    "text_classification": (make_rows, write_csv, "csv"),
    "text_generation": (make_pairs, write_pairs, "csv"),
    "token_classification": (make_tagged, write_conll, "conll"),
}


# What a tiny model needs of a task's settings.
TASK_SETTINGS = {"text_generation": ["task.max_new_tokens=8"]}


def write_task(task: str, folder: Path, *, num_rows: int) -> list[str]:
    """Write three splits for a task, with one row that is long; return overrides that read them."""
    make, write, suffix = TASK_ROWS[task]
    overrides = [f"task={task}", "data=files", *TASK_SETTINGS.get(task, [])]
    for seed, split in enumerate(("train", "validation", "test")):
        rows = make(num_rows, seed=seed)
        first, *others = rows[0]
        # Longer than a model of tests/architectures.py reads at once.
        longer = " ".join([first] * 9) if isinstance(first, str) else first * 9
        rows[0] = (longer, *(cell if isinstance(cell, str) else cell * 9 for cell in others))
        path = write(folder / f"{split}-{task}.{suffix}", rows)
        overrides.append(f"data.{split}={path}")
    return overrides


def fill_workspace(folder: Path, empty_store: Path) -> None:
    """Lay out a folder to run in: an empty store, sixty rows to train on, thirty to validate."""
    shutil.copytree(empty_store.parent, folder / "mlruns")
    write_csv(folder / "train.csv", make_rows(60, seed=1))
    write_csv(folder / "validation.csv", make_rows(30, seed=2))


def tiny_overrides(model: Path) -> list[str]:
    """A tiny model on the files of a workspace, two epochs: accuracy well above chance."""
    return [
        "data=files",
        "data.train=train.csv",
        "data.validation=validation.csv",
        "model=directory",
        f"model.path={model}",
        "trainer.per_device_train_batch_size=8",
        "trainer.learning_rate=3e-3",
        "trainer.num_train_epochs=2",
        "precision=fp32",
        # A second or two more for each study; tests of references ask for them.
        "sweep.references.library_defaults=null",
    ]


def run_here(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Any:
    """``python train.py …`` in this process: the same entry, without the seconds of importing.

    Raises SystemExit where the program would leave with an error.
    """
    monkeypatch.syspath_prepend(str(ROOT))
    import train as entrypoint

    returned: list[Any] = []

    def task(cfg: Any) -> Any:
        returned.append(entrypoint.main.__wrapped__(cfg))
        return returned[-1]

    monkeypatch.setattr(sys, "argv", ["train.py", *overrides])
    GlobalHydra.instance().clear()
    try:
        hydra.main(str(ROOT / "conf"), "config", version_base="1.3")(task)()
    finally:
        for handler in list(logging.getLogger().handlers):
            if isinstance(handler, logging.FileHandler):
                handler.close()
                logging.getLogger().removeHandler(handler)
    return returned[-1] if returned else None


class OtherHead(Full):
    """A faulty method: what is logged is not what was trained."""

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        for parameter in model.parameters():
            parameter.data.neg_()
        return model


class NoHead(Full):
    """A faulty method: what is logged cannot answer."""

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        return model.base_model


@dataclass(frozen=True)
class Store:
    """A workspace with one run, registered as ``tiny`` (version 1, champion) and exported."""

    folder: Path
    run_id: str
    exported: Path
