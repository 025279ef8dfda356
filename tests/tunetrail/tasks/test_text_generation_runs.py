"""Text generation from end to end: conversations in a file, a run, and its model at work."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from architectures import ARCHITECTURES
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from toys import fill_workspace, make_rows, run_here, write_csv, write_lines
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunetrail.__main__ import main
from tunetrail.data.tables.files import load_table

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
COMMON = (
    "task=text_generation", "model=directory", "precision=fp32",
    "task.max_new_tokens=8", "trainer.learning_rate=1e-2",
    "trainer.per_device_train_batch_size=8",
)  # fmt: skip
CHATS = (
    *COMMON, "data=files", "data.train=train.jsonl", "data.validation=validation.jsonl",
    "data.test=test.jsonl",
    "model.path=llama", "task.template=chat", f"task.chat_template='{TEMPLATE}'",
    "task.main_metric=verbatim_match", "task.num_generated=20", "trainer.num_train_epochs=10",
    "trainer.eval_strategy=steps", "trainer.eval_steps=60", "trainer.save_strategy=steps",
    "trainer.save_steps=60",
)  # fmt: skip


def all_runs() -> list[Run]:
    return list(MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db").search_runs(["1"]))


def artifact(run: Run, path: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / path


def make_chats(number: int, *, seed: int) -> list[list[dict[str, str]]]:
    """A word, and as its answer the kind that it is of; every third has a turn before that."""
    chats = []
    for index, (text, label) in enumerate(make_rows(number, seed=seed)):
        word = next(w for w in text.split() if w in WORDS[label])
        contents = ["it was a day", "table", word, label] if index % 3 == 0 else [word, label]
        roles = ("user", "assistant") * 2
        chats.append([{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)])
    return chats


WORDS = {
    "negative": ("bad", "awful", "sad", "worst", "hate"),
    "neutral": ("table", "train", "paper", "cloud", "river"),
    "positive": ("good", "great", "happy", "best", "love"),
}


@pytest.fixture(scope="module")
def here(
    tmp_path_factory: pytest.TempPathFactory, empty_store: Path
) -> Iterator[pytest.MonkeyPatch]:
    """A folder with conversations that the tests stand in."""
    folder = tmp_path_factory.mktemp("generation")
    fill_workspace(folder, empty_store)
    for name in ("llama", "bert"):
        ARCHITECTURES[name].save(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, (split, number) in enumerate({"train": 90, "validation": 30, "test": 30}.items()):
            lines = [(json.dumps({"messages": chat}),) for chat in make_chats(number, seed=seed)]
            write_lines(Path(f"{split}.jsonl"), lines)
        yield patch


@pytest.fixture(scope="module")
def chats(here: pytest.MonkeyPatch) -> Run:
    run_here(here, *CHATS, "score_test=true")
    return all_runs()[0]


def test_answers_are_learnt_and_compared_with_those_before(chats: Run) -> None:
    metrics = chats.data.metrics
    tuning = json.loads(artifact(chats, "reports/tuning.json").read_text())
    assert tuning["before"]["verbatim_match"] == 0
    assert tuning["after"]["verbatim_match"] == metrics["best/validation/verbatim_match"] > 0.5
    assert tuning["gain"]["interval"]["low"] > 0
    assert metrics["test/chrf_low"] <= metrics["test/chrf"] <= metrics["test/chrf_high"]
    assert 0 < metrics["speed/generation_share"] < 1
    assert 0 < metrics["speed/sampling_share"] < 1
    table = pd.read_parquet(artifact(chats, "predictions/validation.parquet"))
    assert table["prediction"].notna().sum() == 20
    written = json.loads(artifact(chats, "tables/samples.json").read_text())
    assert written["columns"] == ["step", "row", "prompt", "generated", "target"]


def test_conversations_of_a_file_and_an_export_are_answered_alike(
    chats: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_parquet(artifact(chats, "predictions/test.parquet"))
    known = table["prediction"].notna()
    (output,) = chats.outputs.model_outputs
    served = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    found = served.predict(table[["text"]])["generated_text"]
    assert list(found[known]) == list(table["prediction"][known])
    assert main(["export", chats.info.run_id, str(tmp_path / "model")]) == 0
    assert "AutoModelForCausalLM" in (tmp_path / "model" / "README.md").read_text()
    for model in (chats.info.run_id, str(tmp_path / "model")):
        out = tmp_path / "out.jsonl"
        # The answers at the end of the conversations are left out.
        command = ["predict", model, "--input", "test.jsonl", "--text-column", "messages"]
        assert main([*command, "--output", str(out)]) == 0
        assert load_table(out, name="out")["prediction"][:] == list(found)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "good"}], tokenize=False, add_generation_prompt=True
    )
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    answer = model.generate(**inputs)[0][len(inputs["input_ids"][0]) :]
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "model"), "good"]) == 0
    said = capsys.readouterr().out.strip().split("\t")[-1]
    assert said == tokenizer.decode(answer, skip_special_tokens=True).strip()


def test_a_prompt_longer_than_the_model_reads_has_no_answer(
    chats: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"messages": [{"role": "user", "content": c}]} for c in ("good", "good " * 60)]
    rows += [{"messages": [{"role": "bot", "content": "x"}]}, {"messages": "good"}]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["predict", chats.info.run_id, "--input", str(path), "--text-column", "messages"]
    assert main([*command, "--output", str(tmp_path / "out.jsonl")]) == 3
    said = capsys.readouterr().err
    assert "line 2: the prompt has no token, or more than 56 of them" in said
    assert "line 3: message 1 has the role 'bot' (known: system, user, assistant)" in said
    assert len(load_table(tmp_path / "out.jsonl", name="out")) == 2


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        (["model.path=llama"], "train: 1 row with no completion or answer (2, counted from 0)"),
        (["model.path=llama", "checks.quality=clean", "data.columns.completion=none"],
         "no column 'none' in train (found: prompt, completion); name one in data.columns"),
        (["model.path=bert"], "is of the kind encoder: it cannot generate text"),
        (["model.path=llama", "task.template=chat", "checks.quality=clean"],
         "set task.chat_template"),
        (["model.path=llama", "data=interface_strings", "data.language=deu"],
         "data.language=deu: Django translates nothing into it"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_line(
    here: pytest.MonkeyPatch, overrides: list[str], cause: str
) -> None:
    rows: list[Any] = [("a word", "x"), ("another", "y"), ("a third", ""), ("day", "z")]
    path = write_csv(Path("pairs.csv"), rows, header="prompt,completion")
    files = ["data=files", f"data.train={path}", f"data.validation={path}"]
    if "data=interface_strings" in overrides:
        files = []
    with pytest.raises(SystemExit) as caught:
        run_here(here, *COMMON, *files, *overrides)
    message = str(caught.value.code)
    assert cause in message
    assert "\n" not in message
