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

How noise is kept out: one thread each, and the two take turns. On a machine that does other work
compare the ratios of ``processor`` too: they depend less on what else runs.

    python benchmarks/methods.py                 # heads: about five minutes a round
    python benchmarks/methods.py heads --rounds 3
    python benchmarks/methods.py in_context      # about ten minutes
    python benchmarks/methods.py in_context --texts 200 --naive 5
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    from tunetrail.models.loading import Loader, load_tokenizer
    from tunetrail.models.methods.base import Examples
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
    parser.add_argument("part", nargs="?", choices=("heads", "in_context"), default="heads")
    parser.add_argument("--rounds", type=int, default=1, help="of heads")
    parser.add_argument("--texts", type=int, default=1000, help="of in_context")
    parser.add_argument("--naive", type=int, default=20, help="texts with whole passes")
    options = parser.parse_args()
    if options.part == "heads":
        sys.exit(not compare_heads(options.rounds))
    sys.exit(not compare_in_context(options.texts, options.naive))


if __name__ == "__main__":
    main()
