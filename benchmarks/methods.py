"""Measure what methods save beside full fine-tuning, on real tweets and real weights.

Part ``heads``: a study of 20 trials over heads on a frozen body (conf/experiment/frozen_heads.yaml)
against one full fine-tuning (python train.py): MiniLM, the same 1,000 tweets, three epochs. Both
are whole commands, the import of libraries included, each in a folder of its own.

How to read the output: ``seconds`` is wall time, ``processor`` the time that processors computed. A
ratio below 1 means that the study was done first. Ends with 1 if the median of the ratios of wall
time is 1 or more.

Part ``in_context``: 16 examples of each label in the prompt of SmolLM2, and the labels of 1,000
tweets (method=in_context), against a whole forward pass for each text and label, which a sample of
the tweets stands for. Both run in this process, and must choose the same labels. Ends with 1 if the
whole passes take less than 5 times as long.

Part ``lora``: steps of LoRA on SmolLM2 against steps of full fine-tuning in bf16, in turns, each in
a process of its own. Ends with 1 if the peak of memory is above 0.6 of that of full fine-tuning, or
the median time of a step above 1.05 of it.

Part ``language``: the share of the tokens in the batches of task=causal_lm that are text, on
tweets, and the peak of memory of an evaluation beside that of training steps, for SmolLM2 and for a
small model with a vocabulary of 250,000. Ends with 1 if the share is below 0.95 or an evaluation
needs more than a training. Peaks are those of the whole process, with its libraries.

How noise is kept out: one thread each, and the two take turns. On a machine that does other work
compare the ratios of ``processor`` too: they depend less on what else runs.

    python benchmarks/methods.py                 # heads: about five minutes a round
    python benchmarks/methods.py heads --rounds 3
    python benchmarks/methods.py in_context      # about ten minutes
    python benchmarks/methods.py in_context --texts 200 --naive 5
    python benchmarks/methods.py lora            # about five minutes
    python benchmarks/methods.py language        # about four minutes
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
NUM_TRIALS = 20
NUM_SHOTS = 16
FULL = ("trainer.num_train_epochs=3",)
HEADS = ("-m", "experiment=frozen_heads", f"sweep.num_trials={NUM_TRIALS}", "sweep.final_seeds=0")


@dataclass(frozen=True)
class Cost:
    seconds: float
    processor: float


def measure(*overrides: str) -> Cost:
    command = [sys.executable, str(TRAIN), *overrides]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        output = Path(folder, "output")
        start = time.monotonic()
        with output.open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        if status:
            last = "\n".join(output.read_text().splitlines()[-5:])
            raise SystemExit(f"{' '.join(command)} ended with {status}:\n{last}")
    return Cost(seconds, used.ru_utime + used.ru_stime)


def compare_heads(num_rounds: int) -> bool:
    print("round              seconds   processor", flush=True)
    ratios, of_processor = [], []
    for number in range(1, num_rounds + 1):
        full, heads = measure(*FULL), measure(*HEADS)
        for name, cost in (("full", full), (f"{NUM_TRIALS} heads", heads)):
            print(f"{number:>5}  {name:<9}{cost.seconds:>10.1f}{cost.processor:>12.1f}", flush=True)
        ratios.append(heads.seconds / full.seconds)
        of_processor.append(heads.processor / full.processor)
    ratio = statistics.median(ratios)
    is_good = ratio < 1
    print(
        f"{'PASS' if is_good else 'FAIL'}: {NUM_TRIALS} trials of heads take {ratio:.2f} of one "
        f"full fine-tuning (below 1), {statistics.median(of_processor):.2f} of its processor time"
    )
    return is_good


def compare_in_context(num_texts: int, num_naive: int) -> bool:
    import torch
    from hydra import compose, initialize_config_dir

    from tunetrail.config.build import build
    from tunetrail.models.loading import Loader
    from tunetrail.models.methods.base import Examples
    from tunetrail.models.tokenizers import load_tokenizer
    from tunetrail.training.inputs import build_method, build_task, load_rows
    from tunetrail.training.tokens import encode_rows

    torch.set_num_threads(1)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        initialize_config_dir(str(TRAIN.parent / "conf"), version_base="1.3"),
    ):
        cfg = compose(
            "config",
            ["experiment=in_context", f"data.per_label={NUM_SHOTS}", f"cache_dir={folder}",
             f"data.num_validation={num_texts}"],
        )  # fmt: skip
        task, method, checkpoint = build_task(cfg), build_method(cfg), build(cfg.model.source)
        splits = encode_rows(task, checkpoint, load_rows(cfg, task, method).dataset).splits
        shown = splits["examples"].take(range(len(splits["examples"].rows))).encoded
        texts = splits["validation"].encoded["input_ids"][:]
        tokenizer = load_tokenizer(checkpoint)
        examples = Examples(shown["input_ids"][:], shown["labels"][:], max(map(len, texts)))
        load = method.choose_loader(Loader(checkpoint), tokenizer, examples)
        classifier = task.load_model(load, tokenizer, splits["train"].rows)
    start = time.process_time()
    found = classifier.score(texts)
    cached = (time.process_time() - start) / len(texts)

    prompt, step = classifier.prompt, max(len(texts) // num_naive, 1)
    chosen = list(range(0, len(texts), step))[:num_naive]
    start = time.process_time()
    sums = torch.tensor(
        [
            [score_whole(classifier.model, prompt, texts[i], label) for label in prompt.labels]
            for i in chosen
        ]
    )
    naive = (time.process_time() - start) / len(chosen)
    # The prior of calibration depends on the prompt alone.
    prior = classifier.score([[]]) - torch.tensor(
        [[score_whole(classifier.model, prompt, [], label) for label in prompt.labels]]
    )
    same = bool((found[chosen].argmax(dim=-1) == (sums + prior).argmax(dim=-1)).all())
    difference = float((found[chosen] - (sums + prior)).abs().max())
    ratio = naive / cached
    is_good = ratio >= 5 and same
    print(
        f"prompt of {len(prompt.prefix)} tokens, {len(texts)} texts: {cached:.3f} s of the "
        f"processor a text, the prompt included\n"
        f"whole passes, {len(chosen)} of the texts: {naive:.3f} s a text\n"
        f"{'PASS' if is_good else 'FAIL'}: {ratio:.1f} times as fast (at least 5), labels "
        f"{'equal' if same else 'different'}, scores within {difference:.1e}"
    )
    return is_good


@dataclass(frozen=True)
class Steps:
    """Peaks of memory of a process, in GB, the median step, and what its batches were made of."""

    evaluation: float
    training: float
    seconds: float
    share_of_text: float


def measure_steps(*overrides: str) -> Steps:
    """Evaluate, then train some steps, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_steps, overrides)


def _measure_steps(*overrides: str) -> Steps:
    import torch
    from hydra import compose, initialize_config_dir

    from tunetrail.config.arguments import autocast_type, build_arguments
    from tunetrail.config.build import build
    from tunetrail.models.loading import Loader
    from tunetrail.models.tokenizers import load_tokenizer
    from tunetrail.training.inputs import build_method, build_task, load_rows
    from tunetrail.training.tokens import encode_rows
    from tunetrail.training.trainer import MeasuringTrainer

    torch.set_num_threads(1)
    with initialize_config_dir(str(TRAIN.parent / "conf"), version_base="1.3"):
        cfg = compose("config", [*overrides])
    task, method, checkpoint = build_task(cfg), build_method(cfg), build(cfg.model.source)
    encoded = encode_rows(task, checkpoint, load_rows(cfg, task, method).dataset)
    tokenizer, loader = load_tokenizer(checkpoint), Loader(checkpoint)
    transformers.set_seed(cfg.training_seed)
    load = method.choose_loader(loader, tokenizer, None)
    model = task.load_model(load, tokenizer, encoded.splits["train"].rows)
    clock = StepClock()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        arguments = build_arguments(cfg, task, Path(folder))
        model = method.prepare(model, new=loader.new)
        if (dtype := autocast_type(arguments)) is not None:
            method.hold(model, dtype)
        trainer = MeasuringTrainer(
            task=task,
            splits={"validation": encoded.splits["validation"]},
            model=model,
            args=arguments,
            train_dataset=encoded.training,
            processing_class=tokenizer,
            data_collator=task.build_collator(tokenizer, model),
            callbacks=[clock],
        )
        forget_peak()
        trainer.evaluate()
        evaluation = read_peak()
        forget_peak()
        trainer.train()
        training = read_peak()
    blocks = [trainer.data_collator([row]) for row in encoded.training]
    text = sum(int(block["attention_mask"].sum()) for block in blocks)
    places = sum(block["input_ids"].numel() for block in blocks)
    return Steps(evaluation, training, statistics.median(clock.seconds), text / places)


class StepClock(transformers.TrainerCallback):
    """Measures the steps after the first, in which memory is taken."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._started = time.monotonic()

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step > 1:
            self.seconds.append(time.monotonic() - self._started)


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def read_peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


# Steps without evaluations between them.
ONLY_STEPS = (
    "trainer.max_steps=12",
    "trainer.eval_strategy=no",
    "trainer.save_strategy=no",
    "trainer.load_best_model_at_end=false",
    "data.num_validation=64",
)


def compare_lora(num_rounds: int) -> bool:
    print("round          peak, GB   seconds a step", flush=True)
    memory, time_of_step = [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        # What a GPU or a processor with AMX computes in, where LoRA holds frozen layers in half.
        computed = ("model=smollm2", "precision=bf16", "data.num_train=200")
        common = (*computed, f"cache_dir={folder}", *ONLY_STEPS)
        measure_steps(*common, "trainer.max_steps=2")  # converts the weights
        for number in range(1, num_rounds + 1):
            full, lora = (measure_steps(*common, f"method={name}") for name in ("full", "lora"))
            for name, steps in (("full", full), ("lora", lora)):
                print(f"{number:>5}  {name:<6}{steps.training:>10.2f}{steps.seconds:>17.2f}")
            memory.append(lora.training / full.training)
            time_of_step.append(lora.seconds / full.seconds)
    peak, step = statistics.median(memory), statistics.median(time_of_step)
    is_good = peak <= 0.6 and step <= 1.05
    print(
        f"{'PASS' if is_good else 'FAIL'}: LoRA needs {peak:.2f} of the memory (at most 0.6), and "
        f"a step takes {step:.2f} of the time (at most 1.05)"
    )
    return is_good


def measure_language() -> bool:
    print("vocabulary   evaluation, GB   training, GB   share of text", flush=True)
    is_good = True
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        common = ("task=causal_lm", "data.num_train=400", f"cache_dir={folder}", *ONLY_STEPS)
        for size, model in (
            (49_152, ("model=smollm2",)),
            (250_000, ("model=directory", f"model.path={save_wide(folder, 250_000)}")),
        ):
            steps = measure_steps(*common, *model, "trainer.per_device_train_batch_size=8")
            print(
                f"{size:>10}{steps.evaluation:>17.2f}{steps.training:>15.2f}"
                f"{steps.share_of_text:>16.4f}",
                flush=True,
            )
            is_good &= steps.evaluation <= steps.training and steps.share_of_text >= 0.95
    print(
        f"{'PASS' if is_good else 'FAIL'}: at least 0.95 of the tokens are text, and an "
        "evaluation needs no more memory than a training"
    )
    return is_good


def save_wide(folder: str, vocab_size: int) -> Path:
    """Save a small decoder with a large vocabulary, and the tokenizer of SmolLM2."""
    from hydra import compose, initialize_config_dir
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunetrail.config.build import build
    from tunetrail.models.tokenizers import load_tokenizer

    with initialize_config_dir(str(TRAIN.parent / "conf"), version_base="1.3"):
        cfg = compose("config", ["model=smollm2", f"cache_dir={folder}"])
    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    path = Path(folder, "wide")
    LlamaForCausalLM(config).save_pretrained(path)
    load_tokenizer(build(cfg.model.source)).save_pretrained(path)
    return path


def score_whole(model: Any, prompt: Any, text: list[int], label: list[int]) -> float:
    """Score a label as no one should: all tokens go through the model, for this text and label."""
    import torch

    before = [*prompt.prefix, *text, *prompt.middle]
    with torch.no_grad():
        kept = len(label) + 1
        ids = torch.tensor([[*before, *label]])
        logs = model(input_ids=ids, logits_to_keep=kept).logits[0].float().log_softmax(dim=-1)
    return sum(float(logs[place, token]) for place, token in enumerate(label))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "part", nargs="?", default="heads", choices=("heads", "in_context", "lora", "language")
    )
    parser.add_argument("--rounds", type=int, default=1, help="of heads and lora")
    parser.add_argument("--texts", type=int, default=1000, help="of in_context")
    parser.add_argument("--naive", type=int, default=20, help="texts with whole passes")
    options = parser.parse_args()
    measured = {
        "heads": lambda: compare_heads(options.rounds),
        "in_context": lambda: compare_in_context(options.texts, options.naive),
        "lora": lambda: compare_lora(options.rounds),
        "language": measure_language,
    }
    sys.exit(not measured[options.part]())


if __name__ == "__main__":
    main()
