"""What differs between runs in all that they record except metrics."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tunetrail.errors import printable
from tunetrail.runs.records import RunRecord


class Missing(Enum):
    """Why a run has no value for a key."""

    ABSENT = "-"  # for example a package that was not installed
    UNKNOWN = "not recorded"


# Facts of the machine that decide the order of sums, and those that choose algorithms.
_THREADS = ("num_threads", "num_interop_threads")
_DETERMINISTIC = "deterministic"

# Text, or why there is none.
Fact = str | Missing


@dataclass(frozen=True)
class Row:
    """One key and its fact in each run."""

    group: str
    key: str
    facts: tuple[Fact, ...]

    @property
    def differs(self) -> bool:
        """Whether two runs are known to differ; a fact that was not recorded is no difference."""
        return len({fact for fact in self.facts if fact is not Missing.UNKNOWN}) > 1


# The facts of one group and run; None if the run recorded none of them.
_Facts = Mapping[str, str] | None


def lay_out(records: Sequence[RunRecord], code: Sequence[str | None]) -> list[Row]:
    """List what each run recorded, group after group.

    Args:
        code: a hash of each run's code, as :meth:`CodeTrees.digest` gives it; None if unknown.

    """
    rows: list[Row] = []
    for group, read, otherwise in _GROUPS:
        of_runs = [read(record) for record in records]
        if group == "code" and None not in code:
            # The code of every run is known: commits that differ elsewhere do not matter.
            of_runs = [{"src, conf, train.py": str(digest)} for digest in code]
        keys = dict.fromkeys(key for facts in of_runs for key in sorted(facts or {}))
        rows += [
            Row(group, key, tuple(_pick(facts, key, otherwise) for facts in of_runs))
            for key in keys
        ]
    return rows


def _pick(facts: _Facts, key: str, otherwise: Missing) -> Fact:
    return Missing.UNKNOWN if facts is None else facts.get(key, otherwise)


def _as_text(facts: Mapping[str, Any] | None) -> _Facts:
    if facts is None:
        return None
    return {
        key: value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in facts.items()
    }


def _data(record: RunRecord) -> _Facts:
    if record.splits is None:
        return None
    return {
        split: f"{num_rows} rows {sha256[:12]}"
        for split, (sha256, num_rows) in record.splits.items()
    }


def _files(record: RunRecord) -> _Facts:
    return record.files and {name: sha256[:12] for name, sha256 in record.files.items()}


def _model(record: RunRecord) -> _Facts:
    if record.model is None:
        return None
    # Not their path: another virtual environment has the same weights elsewhere.
    names = ("revision", "run_id", "num_parameters")
    facts = {name: record.model[name] for name in names if name in record.model}
    return _as_text(facts | {"weights": str(record.model.get("sha256"))[:12]})


def _code(record: RunRecord) -> _Facts:
    if record.code.commit is None:
        return None
    patch = record.code.patch
    changed = hashlib.sha256(patch).hexdigest()[:12] if patch else "none"
    return {"commit": record.code.commit[:12], "uncommitted changes": changed}


def _of_machine(is_asked: Callable[[str], bool]) -> Callable[[RunRecord], _Facts]:
    def read(record: RunRecord) -> _Facts:
        facts = _as_text(record.machine)
        return facts and {key: fact for key, fact in facts.items() if is_asked(key)}

    return read


def _is_hardware(key: str) -> bool:
    return key not in _THREADS and not key.startswith(_DETERMINISTIC)


# Name of a group, its reader, and what a missing key means if the run recorded the group.
_GROUPS: tuple[tuple[str, Callable[[RunRecord], _Facts], Missing], ...] = (
    ("config", lambda record: _as_text(record.config), Missing.ABSENT),
    ("data", _data, Missing.ABSENT),
    ("source files", _files, Missing.ABSENT),
    ("weights started from", _model, Missing.UNKNOWN),
    ("code", _code, Missing.UNKNOWN),
    ("packages", lambda record: record.packages, Missing.ABSENT),
    ("machine", _of_machine(_is_hardware), Missing.UNKNOWN),
    ("threads", _of_machine(lambda key: key in _THREADS), Missing.UNKNOWN),
    ("determinism", _of_machine(lambda key: key.startswith(_DETERMINISTIC)), Missing.UNKNOWN),
    ("seeds", lambda record: _as_text(record.seeds), Missing.UNKNOWN),
)


def describe(rows: Sequence[Row], code_changes: Sequence[str]) -> list[str]:
    """Describe what differs between two runs, one phrase for each group.

    Args:
        code_changes: the changed files of the code, if they are known.

    """
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row.differs:
            change = f"{row.key} {show(row.facts[0])} -> {show(row.facts[1])}"
            groups.setdefault(row.group, []).append(change)
    if "code" in groups and code_changes:
        groups["code"] = list(code_changes)
    return [f"{group} changed ({shorten(changes)})" for group, changes in groups.items()]


def shorten(changes: Sequence[str]) -> str:
    """List the first three and count the rest."""
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return ", ".join(changes[:3]) + more


def show(value: Fact, *, length: int = 40) -> str:
    """Write a fact in one line of at most ``length`` characters."""
    text = printable(" ".join((value.value if isinstance(value, Missing) else value).split()))
    return text if len(text) <= length else f"{text[: length - 1]}…"
