"""Forgetting: measured on texts that the tuning never saw, and nothing else is changed by it."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES
from datasets import Dataset
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from toys import CLASSIFY, make_rows, make_texts, write_csv, write_lines, write_task
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunetrail.errors import InputError
from tunetrail.evaluation.forgetting import references
from tunetrail.evaluation.forgetting.measures import OwnPerplexity
from tunetrail.evaluation.forgetting.plan import Forgetting, Part
from tunetrail.evaluation.forgetting.report import ForgettingReport, NotMeasured, Verdict
from tunetrail.evaluation.forgetting.store import KeptCosts
from tunetrail.evaluation.statistics import compare_rows
from tunetrail.models.loading import Kind

Train = Callable[..., Any]
# A toy run is too short for the default, which is a twentieth of its computation.
MEASURED = ("forgetting=text", "forgetting.text.path=reference.txt", "forgetting.share=1")


def last_run() -> Run:
    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("tunetrail")
    assert experiment is not None
    return client.search_runs([experiment.experiment_id])[0]


def report(run: Run) -> dict[str, Any]:
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    found: dict[str, Any] = json.loads((folder / "reports/forgetting.json").read_text())
    return found


def forgotten(run: Run) -> float:
    return float(run.data.metrics["forgetting/forgotten"])


@pytest.fixture(scope="module")
def knowing(tiny_gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny decoder that knows a little: how the toy texts go on."""
    folder = tmp_path_factory.mktemp("knowing")
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(tiny_gpt2)
    # A text follows what ends the one before.
    texts = [f"{tokenizer.eos_token}{text}" for (text,) in make_texts(256, seed=7)]
    batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ARCHITECTURES["bert"].save(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def tune(train: Train, tiny: list[str], knowing: Path) -> Callable[..., Run]:
    """Tune the decoder that knows something, and return the run."""
    write_lines(Path("reference.txt"), make_texts(60, seed=8))

    def run(*overrides: str) -> Run:
        train(*tiny, f"model.path={knowing}", *MEASURED, *overrides)
        return last_run()

    return run


@pytest.mark.slow
def test_an_overtrained_decoder_forgets_lora_less_and_a_frozen_one_nothing(
    tune: Callable[..., Run],
) -> None:
    full = tune("trainer.learning_rate=2e-2", "method=full")
    lora = tune("trainer.learning_rate=2e-2", "method=lora")
    frozen = tune("trainer.learning_rate=2e-2", "method=frozen")
    assert forgotten(full) > 2 * forgotten(lora) > 0
    assert forgotten(frozen) == 0.0
    found, kept = report(full), report(frozen)
    assert found["verdict"] == "forgot"
    assert full.data.metrics["forgetting/forgotten_low"] > 0
    before, after = (found[name] for name in ("before", "after"))
    assert np.log(after / before) == pytest.approx(forgotten(full), abs=0.02)
    assert "method=lora or trainer.learning_rate=0.007" in found["line"]
    assert "method=lora" not in report(lora)["line"]
    assert found["measure"] == "perplexity"
    assert full.data.metrics["forgetting/perplexity_before"] == before == kept["before"]
    assert kept["verdict"] == "kept"
    assert kept["before"] == kept["after"]
    assert found["worst"][0]["after"] > found["worst"][0]["before"]


@pytest.mark.slow
def test_a_run_is_bit_identical_with_and_without_it_and_the_start_is_measured_once(
    tune: Callable[..., Run],
) -> None:
    overrides = ("score_test=false", "+trainer.activation_checkpointing=true")
    measured = tune(*overrides)
    cached = [*Path("mlruns/cache/forgetting").glob("*.json")]
    assert len(cached) == 1
    again = tune(*overrides)
    without = tune(*overrides, "diagnostics.forgetting=false")
    own = ("forgetting/", "speed/")

    def others(run: Run) -> dict[str, float]:
        return {k: v for k, v in run.data.metrics.items() if not k.startswith(own)}

    assert others(measured) == others(without) == others(again)
    assert not any(name.startswith("forgetting/") for name in without.data.metrics)
    assert forgotten(measured) == forgotten(again)

    def weights(run: Run) -> bytes:
        folder = Path(f"mlruns/artifacts/models/{run.outputs.model_outputs[0].model_id}")
        return next(folder.rglob("model.safetensors")).read_bytes()

    assert weights(measured) == weights(without)
    # What lies in the cache is used.
    content = json.loads(cached[0].read_text())
    cached[0].write_text(json.dumps({"costs": [[10 * a, b] for a, b in content["costs"]]}))
    assert forgotten(tune(*overrides)) < forgotten(measured)


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", '{"costs": [[1]]}', '{"costs": [[1, 0], [1, 1]]}',
     '{"costs": [[NaN, 1], [1, 1]]}', '{"costs": [[-1, 1], [1, 1]]}', '{"costs": ["a", {}]}'],
)  # fmt: skip
def test_a_cache_that_cannot_be_used_is_measured_again(tmp_path: Path, content: str | None) -> None:
    kept = KeptCosts(tmp_path / "made", {"key": 1})
    kept.write(costs := np.array([[1.5, 1.0], [0.1, 3.0]]))
    found = kept.read(2)
    assert found is not None
    assert (found == costs).all()
    assert kept.read(3) is None
    assert KeptCosts(tmp_path / "made", {"key": 2}).read(2) is None
    (file,) = (tmp_path / "made").iterdir()
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert kept.read(2) is None


def plan_for(tokenizer_dir: Path, **chosen: Callable[[], references.Reference]) -> Any:
    """Plan for a decoder that is tuned as a classifier, or with ``probe`` for an encoder."""
    rows = Dataset.from_dict({"text": ["seen"], "target": ["a"]})
    read: dict[str, Any] = {"text": references.read_manual, "probe": references.read_summaries}
    forgetting = Forgetting(**(read | chosen), most_tokens=5_000, share=0.05)
    kind: Kind = "encoder" if "probe" in chosen else "decoder"
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    return forgetting.plan(CLASSIFY, kind, tokenizer, rows, is_required=False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.txt", None, "no such file"),
        ("a.txt", "", "0 different texts with tokens, and 8 are needed; name another file"),
        ("a.txt", "\n \n\n", "0 different texts with tokens, and 8 are needed"),
        ("a.txt", "one row alone\n", "1 different texts with tokens, and 8 are needed"),
        ("a.txt", "the same\n" * 50, "1 different texts with tokens"),
        ("a.txt", "seen\n" * 50, "0 different texts with tokens, 1 more are in train"),
        ("a.txt", b"ab\xe4c\n", "line 1: bytes that are not"),
        ("a.csv", "label,words\na,b\n", "it has no column 'text' (found: label, words)"),
        ("a.csv", "text\n1\n2\n", "2 different texts with tokens"),
        ("a.jsonl", '{"text": ["a"]}\n', "it holds no text in column 'text' of line 1"),
        ("a.txt", "PK\x03\x04", "a zip archive"),
        ("a.docx", "x", "a.docx"),
    ],
)
def test_a_bad_reference_is_refused_in_one_line(
    tiny_tokenizer_dir: Path, tmp_path: Path, name: str, content: str | bytes | None, message: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    read = partial(references.read_texts, path=str(file), column="text")
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        plan_for(tiny_tokenizer_dir, text=read)
    assert str(caught.value).startswith(f"forgetting.text.path={file}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (make_rows(4), "needs two such; set forgetting.probe.label_column"),
        (make_rows(30), "30 different texts with tokens, and 60 are needed"),
        ([(f"\u1f41 \u1f04\u03bd{chr(0x391 + n)} \u03bb", "ab"[n % 2]) for n in range(80)],
         "the model's tokenizer does not read its language: 1"),
    ],
    ids=["few of a label", "few", "another language"],
)  # fmt: skip
def test_a_bad_table_of_a_probe_is_refused_in_one_line(
    bert: Path, tmp_path: Path, rows: list[tuple[str, str]], message: str
) -> None:
    file = write_csv(tmp_path / "probe.csv", rows)
    read = partial(references.read_labelled, path=str(file), column="text", label_column="label")
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        plan_for(bert, probe=read)
    assert str(caught.value).startswith(f"forgetting.probe.path={file}: ")


def test_a_bad_reference_ends_a_run_before_training(train: Train, tiny: list[str]) -> None:
    Path("bad.txt").write_text("alone\n")
    with pytest.raises(SystemExit, match="1 different texts with tokens") as caught:
        train(*tiny, "forgetting=text", "forgetting.text.path=bad.txt")
    assert str(caught.value).startswith("error: forgetting.text.path=bad.txt: ")
    assert not list(Path("mlruns").glob("checkpoints/*/checkpoint-*"))


def test_a_tokenizer_that_does_not_read_the_shipped_reference_ends_no_run(bert: Path) -> None:
    nothing = references.Reference("nothing", ["\u1f41 \u03bb"] * 80, ["a", "b"] * 40)
    plan = plan_for(bert, probe=lambda: nothing)
    assert plan.parts == ()
    assert plan.reason.startswith("nothing: the model's tokenizer does not read its language")


def test_a_megabyte_in_one_line_is_cut_into_passages_and_bounded(tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text("one line of words " * 60_000 + "\n" + "x" * 2_000_000)
    found = references.read_texts(path=str(file), column="text")
    assert max(map(len, found.texts)) <= 600
    assert len(found.texts) <= 2_000


@pytest.mark.slow
def test_a_toy_run_is_too_short_and_says_so_and_that_a_named_file_is_not_used(
    train: Train, tiny: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    write_csv(Path("topics.csv"), make_rows(120, seed=9))
    train(*tiny, "forgetting=probe", "forgetting.probe.path=topics.csv")
    said = "".join(capfd.readouterr())
    assert "forgetting.probe.path=topics.csv: of this model the" in said
    found = report(last_run())
    assert found["verdict"] is None
    assert "forgetting.share" in found["line"]


@pytest.mark.slow
def test_it_can_be_an_objective_only_where_it_is_measured(train: Train, tiny: list[str]) -> None:
    bound = "+sweep.constraints={forgetting/forgotten: '<= 0.1'}"
    with pytest.raises(SystemExit, match=r"sweep\.constraints: forgetting/forgotten is not measu"):
        train(*tiny, bound, "diagnostics.forgetting=false")
    write_lines(Path("reference.txt"), make_texts(60, seed=8))
    named = "sweep.objectives=[validation/accuracy,forgetting/forgotten]"
    returned = train(*tiny, named, *MEASURED[:2])
    metrics = last_run().data.metrics
    assert returned == [metrics["validation/accuracy"], metrics["forgetting/forgotten"]]
    # It was asked for: so it is measured, on as few texts as make sense.
    assert report(last_run())["num_rows"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [
        ("text_classification", "full", "bert", "probe_accuracy"),
        ("text_classification", "lora", "t5", "probe_accuracy"),
        ("masked_lm", "full", "roberta", "pseudo_perplexity"),
        ("causal_lm", "lora", "llama", "perplexity"),
        ("token_classification", "full", "qwen2", "perplexity"),
        ("text_classification", "lora", "llama", "perplexity"),
    ],
)
def test_each_kind_of_model_has_its_measure(
    train: Train, tmp_path: Path, cell: tuple[str, str, str, str]
) -> None:
    task, method, architecture, measure = cell
    checkpoint = ARCHITECTURES[architecture].save(tmp_path / architecture)
    train(
        *write_task(task, Path.cwd(), num_rows=24), f"method={method}", "model=directory",
        f"model.path={checkpoint}", "trainer.learning_rate=2e-2", "trainer.num_train_epochs=2",
        "trainer.per_device_train_batch_size=6", "precision=fp32", "forgetting.share=1",
        "+sweep.constraints={forgetting/forgotten: '<= 9'}", "tracking.log_model=false",
    )  # fmt: skip
    metrics = last_run().data.metrics
    assert f"forgetting/{measure}_before" in metrics
    assert metrics[f"forgetting/{measure}_before"] != metrics[f"forgetting/{measure}_after"]


def build_report(before: Any, after: Any) -> ForgettingReport:
    return ForgettingReport(
        measure="perplexity", title="perplexity", unit="nats a token", reference="texts",
        num_rows=len(before), num_tokens=100, num_left_out=0, before=2.0, after=3.0,
        forgotten=compare_rows(after, before, seed=0), is_trained=True, advice="try x=1", worst=[],
    )  # fmt: skip


@pytest.mark.slow
def test_noise_alone_is_not_forgetting() -> None:
    draw = np.random.default_rng(0)
    befores = draw.normal(3, 1, (200, 60))
    reports = [build_report(one, one + draw.normal(0, 0.2, 60)) for one in befores]
    # 5 %, and two standard errors; of 1,000 draws with 60 rows each it is 6.2 %.
    assert sum(found.verdict is not Verdict.KEPT for found in reports) <= 10 + 6


def test_a_change_beyond_noise_is_told_and_offered_for_the_page() -> None:
    before = np.random.default_rng(0).normal(3, 1, 60)
    assert build_report(before, before - 0.5).verdict is Verdict.IMPROVED
    assert build_report(before, before + 0.001).verdict is Verdict.KEPT
    found = build_report(before, before + 0.5)
    assert found.verdict is Verdict.FORGOT
    assert (found.section().title, len(found.section().tables)) == ("What the model forgot", 1)
    assert NotMeasured("why").section().sentence == "Not measured: why."


def test_fewer_texts_are_taken_of_a_short_training() -> None:
    windows = [{"input_ids": [1] * 10, "labels": [1], "index": n} for n in range(80)]
    reference = references.Reference("texts", ["a"] * 80)
    part = Part(OwnPerplexity(), reference, windows, 0)
    sizes = [part.fit(tokens, at_least=False) for tokens in (5_000, 799, 399, 100, 99)]
    assert [None if found is None else len(found.windows) for found in sizes] == [
        80,
        40,
        20,
        10,
        None,
    ]
    asked = part.fit(0, at_least=True)
    assert asked is not None
    assert len(asked.windows) == 8


def test_the_references_that_are_shipped_are_enough_and_in_their_order() -> None:
    manual, summaries = references.read_manual(), references.read_summaries()
    assert len(manual.texts) > 100
    assert len(summaries.texts) > 300
    # Labels take turns, so that the first ones have all of them.
    assert len({*summaries.labels[:6]}) == 6
    assert len({*summaries.texts}) == len(summaries.texts)
