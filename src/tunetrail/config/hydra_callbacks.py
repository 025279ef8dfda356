"""Hydra's callbacks: check the output folder, and write Hydra's files without secrets."""

import re
import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML ships no types
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import OmegaConfDumper

from tunetrail.config.secrets import HIDDEN, hide_variables, redact
from tunetrail.config.terminal import clean

_VARIABLE = re.compile(r"\$\{oc\.env:\s*(\w+)")


class RequireOutputDir(Callback):
    """Ends the program with one line if the folder of the run or sweep cannot be created."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        _require_writable("hydra.run.dir", str(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        _require_writable("hydra.sweep.dir", str(config.hydra.sweep.dir))


def _require_writable(key: str, folder: str) -> None:
    if HIDDEN in redact(folder):
        sys.exit(
            clean(f"error: {key}={folder}: holds what looks like a secret; choose another name")
        )
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # Hydra would turn an exception of a callback into a warning and continue.
        sys.exit(
            clean(
                f"error: {key}={folder}: cannot be created ({error.strerror}); choose another "
                "folder"
            )
        )


class WriteHydraFiles(Callback):
    """Writes ``config.yaml``, ``hydra.yaml`` and ``overrides.yaml`` into ``subdir`` of a job.

    Set ``hydra.output_subdir`` to null: Hydra writes its own files before it calls a callback.
    """

    def __init__(self, subdir: str) -> None:
        self._subdir = subdir

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        _hide_variables_of(config)

    on_multirun_start = on_run_start

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Write the files into the job's folder."""
        # In a worker of a sweep no other method was called before.
        content = _hide_variables_of(config)
        overrides = content["hydra"]["overrides"]["task"]
        hydra = {"hydra": content.pop("hydra")}
        folder = Path(config.hydra.runtime.output_dir) / self._subdir
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in (("config", content), ("hydra", hydra), ("overrides", overrides)):
            text = yaml.dump(redact(part), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Hide secrets in the overrides, which Hydra prints if the job has failed."""
        del config
        job_return.overrides = redact(list(job_return.overrides or []))


def _hide_variables_of(config: DictConfig) -> dict[str, Any]:
    """Hide the environment variables that a config reads; return it unresolved."""
    content = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    assert isinstance(content, dict)
    hide_variables(_VARIABLE.findall(str(content)))
    return {str(name): node for name, node in content.items()}


class _Dumper(yaml.CSafeDumper):  # type: ignore[misc] # as above
    """Writes strings as OmegaConf does, with libyaml: in a quarter of the time."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)
