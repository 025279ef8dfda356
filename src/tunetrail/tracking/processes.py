"""Which process holds a run: noted on the run, so that others can tell whether it still does.

The store does not know when a process is killed: its run stays RUNNING. A process is named by its
number and its start, which no later process has. Whether it lives is only told where its kernel is
seen: of another host or container nothing is known.
"""

import functools
import hashlib
import json
import os
import socket
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tunetrail.tracking.store import look_up
from tunetrail.training.run_lock import is_free

# Each process that holds a run has a tag of its own, which it deletes at the end: several hold the
# parent of a study.
_PREFIX = "tunetrail.process."
# Of a process that has ended and waits for its parent.
_ENDED = "ZX"
_PAGE_SIZE = 1000


class Held(Enum):
    """Whether a process holds a run."""

    YES = "a process trains it"
    NO = "its process has ended"
    UNKNOWN = "nothing is known of its process here"


def own_tag() -> dict[str, str]:
    """Return the tag that names this process."""
    return _describe(os.getpid())


@functools.lru_cache(maxsize=1)
def _describe(pid: int) -> dict[str, str]:
    _, started = _read_stat(pid) or ("", "")
    record = {
        "host": socket.gethostname(),
        "machine": hashlib.sha256(_read("/etc/machine-id").encode()).hexdigest()[:16],
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "namespace": _namespace(),
        "pid": pid,
        "started": started,
    }
    text = json.dumps(record)
    return {f"{_PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:8]}": text}


def list_tags(run: Run) -> dict[str, str]:
    """List the tags of a run that name processes."""
    return {key: text for key, text in run.data.tags.items() if key.startswith(_PREFIX)}


def list_ended(run: Run) -> list[str]:
    """List the tags of a run that name processes which have ended."""
    return [key for key, text in list_tags(run).items() if _judge(text, None) is Held.NO]


def find_held(run: Run, checkpoint_dir: Path | None) -> Held:
    """Find out whether a run is held.

    Args:
        run: with its tags.
        checkpoint_dir: where this machine's runs keep their locks, if that is known.

    """
    lock = None if checkpoint_dir is None else checkpoint_dir / str(run.info.run_id)
    found = {_judge(text, lock) for text in list_tags(run).values()}
    if Held.YES in found:
        return Held.YES
    # Runs of an earlier version name no process.
    return Held.NO if found == {Held.NO} else Held.UNKNOWN


def _judge(text: str, folder: Path | None) -> Held:
    try:
        record = json.loads(text)
        pid = int(record["pid"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return Held.UNKNOWN
    [own] = (json.loads(tag) for tag in own_tag().values())
    if not own["boot"] or pid <= 0:
        return Held.UNKNOWN
    if all(record.get(key) == own[key] for key in ("boot", "namespace")):
        return _look(pid, str(record.get("started")))
    # After a restart nothing of the machine's processes lives. Machines may have one name and, when
    # cloned, one id: so the lock of the run must lie here, too, and be free.
    restarted = all(record.get(key) == own[key] for key in ("host", "machine")) and (
        record.get("boot") != own["boot"]
    )
    return Held.NO if restarted and folder is not None and is_free(folder) else Held.UNKNOWN


def _look(pid: int, started: str) -> Held:
    if (found := _read_stat(pid)) is not None:
        state, since = found
        return Held.YES if since == started and state not in _ENDED else Held.NO
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Held.NO
    except (OSError, OverflowError):
        pass
    return Held.UNKNOWN  # another user's, and /proc hides it


def _read_stat(pid: int) -> tuple[str, str] | None:
    """Return state and start of a process, in ticks since the start of the machine."""
    # A program may have brackets and spaces in its name.
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (fields[0], fields[19]) if len(fields) > 19 else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - a link that names no file
    except OSError:
        return ""


def release(client: MlflowClient, run_id: str, tags: Iterable[str]) -> None:
    """Delete tags of processes that no longer hold a run."""
    for key in tags:
        # Another process may have closed the run and deleted them.
        look_up(client.delete_tag, run_id, key)


def close_abandoned(
    client: MlflowClient, experiment_ids: list[str], checkpoint_dir: Path
) -> list[str]:
    """Close the runs that are RUNNING and that no process holds; return their ids."""
    return [
        str(run.info.run_id)
        for run in list_running(client, experiment_ids)
        if find_held(run, checkpoint_dir) is Held.NO and close_killed(client, run, checkpoint_dir)
    ]


def list_running(client: MlflowClient, experiment_ids: list[str]) -> Iterator[Run]:
    """List the runs that are RUNNING."""
    token = None
    while experiment_ids:
        page = client.search_runs(
            experiment_ids, "attributes.status = 'RUNNING'", max_results=_PAGE_SIZE,
            page_token=token,
        )  # fmt: skip
        yield from page
        if not (token := page.token):
            return


def close_killed(client: MlflowClient, run: Run, checkpoint_dir: Path) -> bool:
    """Close a run as KILLED at the time of its last sign; False if it is held again meanwhile."""
    run_id = str(run.info.run_id)
    now = client.get_run(run_id)
    if now.info.status != "RUNNING" or find_held(now, checkpoint_dir) is Held.YES:
        return False
    signs = [metric.timestamp for metric in now.data._metric_objs]  # noqa: SLF001 - the public ones have no times
    client.set_tag(run_id, "tunetrail.failure", "its process was killed")
    client.set_terminated(run_id, "KILLED", end_time=max([now.info.start_time, *signs]))
    release(client, run_id, list_tags(now))
    return True
