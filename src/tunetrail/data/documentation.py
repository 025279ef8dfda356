"""Summaries and questions from the documentation of installed packages, and its reader.

Their sources are parsed and none of their code runs, so the rows are the same on each machine that
has the same releases. What documentation is made of while a package is imported is not seen: the
functions of NumPy that are written in C, and docstrings that are filled from templates.
"""

import ast
import hashlib
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from datasets import Dataset, DatasetDict

from tunetrail.errors import InputError

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Folders that document nothing for users.
_INNER = re.compile(
    r"(^|/)(tests?|testing|conftest|_?externals?|_lib|_vendored|distutils|f2py|setup)(/|\.py$)"
)
# Parts of templates: what fills them is not in the source.
_TEMPLATE = re.compile(r"%\(\w+\)s|\{\w+\}|%s")
# A summary of fewer words says too little, one of more is no summary.
_FEWEST_WORDS, _MOST_CHARACTERS = 3, 200


@dataclass(frozen=True)
class Documented:
    """A public function or class: full name (``scipy.stats.ttest_ind``), docstring, definition."""

    name: str
    docstring: str
    definition: _Definition


def load_summaries(*, distributions: Sequence[str], max_characters: int) -> DatasetDict:
    """Read docstrings as the split "train": the body is the ``prompt``, the summary completes it.

    The summary is the first paragraph, where that is one sentence; ``source`` names the function or
    class. Docstrings with an equal body or an equal summary are read once.

    Args:
        distributions: their names.
        max_characters: of a body; docstrings with a longer one are left out, none is cut.

    Raises:
        InputError: a distribution is not installed.

    """
    rows: dict[str, tuple[str, str]] = {}
    summaries: set[str] = set()
    documented, checksums = read_documentation(distributions)
    for found in documented:
        summary, _, body = found.docstring.partition("\n\n")
        summary, body = " ".join(summary.split()), body.strip()
        if not body or len(body) > max_characters or not _is_summary(summary):
            continue
        if body not in rows and summary not in summaries:
            rows[body] = (summary, found.name)
            summaries.add(summary)
    return _build(rows, checksums)


def load_pairs(*, distributions: Sequence[str], max_characters: int) -> DatasetDict:
    """Read pairs of texts as the split "train": ``summary``, ``body``, and the ``label``.

    The rows are those of :func:`load_summaries`. Every other one has the summary of a row half of
    them away, which is of another package or module; its label is ``other``, that of the rest
    ``own``.

    Raises:
        InputError: a distribution is not installed.

    """
    rows = load_summaries(distributions=distributions, max_characters=max_characters)["train"]
    summaries = [*rows["completion"]]
    is_own = [index % 2 == 0 for index in range(len(rows))]
    half = len(rows) // 2
    away = [*summaries[half:], *summaries[:half]]
    train = Dataset.from_dict(
        {
            "summary": [
                one if own else other
                for one, other, own in zip(summaries, away, is_own, strict=True)
            ],
            "body": rows["prompt"][:],
            "label": ["own" if own else "other" for own in is_own],
            "source": rows["source"][:],
        }
    )
    train.info.download_checksums = rows.info.download_checksums
    return DatasetDict({"train": train})


def load_questions(*, distributions: Sequence[str], max_characters: int) -> DatasetDict:
    """Read signatures as the split "train", with a question for the default of a parameter.

    The ``prompt`` holds signature, summary and question, so that the answer can be found;
    ``completion`` is the default as Python writes it. Functions without two different defaults are
    left out, and of equal signatures one is read. Which parameter is asked for depends on the name
    of the function alone.

    Args:
        distributions: their names.
        max_characters: of a prompt; longer ones are left out, none is cut.

    Raises:
        InputError: a distribution is not installed.

    """
    rows: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    documented, checksums = read_documentation(distributions)
    for found in documented:
        function = _find_function(found.definition)
        if function is None:
            continue
        defaults = _list_defaults(function.args)
        signature = f"{found.name.rpartition('.')[2]}({_write_arguments(function.args)})"
        if len({*defaults.values()}) < 2 or signature in seen:
            continue
        seen.add(signature)
        draw = int.from_bytes(hashlib.sha256(found.name.encode()).digest()[:4], "little")
        # Many defaults are None: choose among different answers first.
        answer = sorted({*defaults.values()})[draw % len({*defaults.values()})]
        names = sorted(name for name, default in defaults.items() if default == answer)
        summary = " ".join(found.docstring.partition("\n\n")[0].split())
        question = f"What is the default of {names[draw % len(names)]}?"
        prompt = f"{signature}\n{summary}\n{question}"
        if len(prompt) <= max_characters:
            rows[prompt] = (answer, found.name)
    return _build(rows, checksums)


def read_documentation(distributions: Sequence[str]) -> tuple[list[Documented], dict[str, Any]]:
    """Read the public functions and classes that have docstrings, and a checksum of all sources.

    Tests, what others have written (``externals``) and docstrings that are templates are left out.

    Raises:
        InputError: a distribution is not installed.

    """
    found: list[Documented] = []
    checksums: dict[str, Any] = {}
    for name in distributions:
        try:
            files = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            raise InputError(
                f"data.source.distributions: {name} is not installed; run `make setup`"
            ) from None
        digest, num_bytes = hashlib.sha256(), 0
        for file in sorted(file for file in files if file.suffix == ".py"):
            if _INNER.search(str(file)):
                continue
            source = file.read_binary()
            digest.update(source)
            num_bytes += len(source)
            module = str(file.with_suffix("")).replace("/", ".").removesuffix(".__init__")
            found += _walk(ast.parse(source), module)
        checksums[f"{name} {metadata.version(name)}"] = {
            "num_bytes": num_bytes, "checksum": digest.hexdigest(),
        }  # fmt: skip
    return found, checksums


def _build(rows: dict[str, tuple[str, str]], checksums: dict[str, Any]) -> DatasetDict:
    train = Dataset.from_dict(
        {
            "prompt": list(rows),
            "completion": [completion for completion, _ in rows.values()],
            "source": [source for _, source in rows.values()],
        }
    )
    train.info.download_checksums = checksums
    return DatasetDict({"train": train})


def _walk(node: ast.Module | ast.ClassDef, name: str) -> Iterator[Documented]:
    for child in node.body:
        if isinstance(child, _Definition) and not child.name.startswith("_"):
            inner = f"{name}.{child.name}"
            docstring = ast.get_docstring(child)
            if docstring and not _TEMPLATE.search(docstring):
                yield Documented(inner, inspect.cleandoc(docstring), child)
            if isinstance(child, ast.ClassDef):
                yield from _walk(child, inner)


def _is_summary(text: str) -> bool:
    is_short = len(text) <= _MOST_CHARACTERS and len(text.split()) >= _FEWEST_WORDS
    return is_short and text.endswith(".") and ". " not in text


def _find_function(definition: _Definition) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return what has the signature: of a class its ``__init__``."""
    if not isinstance(definition, ast.ClassDef):
        return definition
    inits = (n for n in definition.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    return next(inits, None)


def _list_defaults(arguments: ast.arguments) -> dict[str, str]:
    """Return the defaults that are written as values, not as names or calls."""
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [
        *zip(
            positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True
        ),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    found = {}
    for argument, default in pairs:
        try:
            value = None if default is None else ast.literal_eval(default)
        except ValueError:
            continue
        if default is not None and not isinstance(value, dict | list | set):
            found[argument.arg] = ast.unparse(default)
    return found


def _write_arguments(arguments: ast.arguments) -> str:
    """Write a signature without its first argument if that is the object itself."""
    text = ast.unparse(arguments)
    return re.sub(r"^(self|cls)(, |$)", "", text)
