"""Real parts, small: two-layer models of width 32 on disk, a real store in a folder of its own.

Imports nothing heavy: the process that only hands out tests reads this file, too.
"""

import gc
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import process_environment  # noqa: F401 - first: libraries read it when they are imported
import pytest
import warm

_ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """Spend no time on what no test asks for."""
    from sqlalchemy import Engine, event

    # No test pulls the plug: none waits until a database is on the disk.
    @event.listens_for(Engine, "connect")
    def leave_writing_to_the_system(connection: Any, _record: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    # Each run collects garbage first: it need not look at what was imported.
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer trained on a few sentences, as GPT-2 has: no padding token."""
    from tokenizers import ByteLevelBPETokenizer
    from toys import make_rows
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tokenizer")
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        [text for text, _ in make_rows(300)], vocab_size=400, special_tokens=["<|endoftext|>"]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token="<|endoftext|>", model_max_length=64
    )
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt2(tiny_tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of two layers and width 32 with drawn weights, as a checkpoint on disk."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MLflow database, and Optuna's beside it, with their tables made.

    Making them takes seconds, copying them none.
    """
    import optuna

    from tunetrail.tracking.store import connect

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}").search_experiments()
    optuna.storages.RDBStorage(f"sqlite:///{path.with_name('optuna.db')}").engine.dispose()
    return path


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with an empty store at the place where runs look for it."""
    from toys import fill_workspace

    fill_workspace(tmp_path, empty_store)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(tiny_gpt2: Path) -> list[str]:
    """Overrides for a run of a second or two in the workspace."""
    from toys import tiny_overrides

    return tiny_overrides(tiny_gpt2)


@pytest.fixture
def warm_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the processes that the code starts without the seconds of importing."""
    monkeypatch.setattr(subprocess, "Popen", warm.Warm)


Train = Callable[..., Any]


@pytest.fixture
def train(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """``python train.py …`` in this process, in the workspace."""
    from toys import run_here

    def run(*overrides: str) -> Any:
        return run_here(monkeypatch, *overrides)

    return run


@pytest.fixture
def run_train(workspace: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """``python train.py …`` as a process of its own, in the workspace."""

    def run(*overrides: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return warm.run(
            [sys.executable, str(_ROOT / "train.py"), *overrides],
            cwd=workspace,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run
