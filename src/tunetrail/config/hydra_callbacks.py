"""Callbacks that Hydra calls: check the output folder, write its files without secrets."""

import re
import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML ships no types
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import OmegaConfDumper

from tunetrail.config.secrets import hide_variables, redact

_VARIABLE = re.compile(r"\$\{oc\.env:\s*(\w+)")


class RequireOutputDir(Callback):
    """Ends the program with one line where the folder of the run or sweep cannot be made."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        del kwargs
        _require_writable("hydra.run.dir", str(config.hydra.run.dir))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        del kwargs
        _require_writable("hydra.sweep.dir", str(config.hydra.sweep.dir))


def _require_writable(key: str, folder: str) -> None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # Hydra turns an exception of a callback into a warning and goes on.
        sys.exit(
            f"error: {key}={folder}: cannot be made ({error.strerror}); free the path, or choose "
            "another"
        )


class WriteHydraFiles(Callback):
    """Writes ``config.yaml``, ``hydra.yaml`` and ``overrides.yaml`` of a job, in Hydra's place.

    Hydra writes its own before it calls anyone, and a secret that was on the disk may stay there:
    set ``hydra.output_subdir`` to null.

    Args:
        subdir: of the job's folder.

    """

    def __init__(self, subdir: str) -> None:
        self._subdir = subdir

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        del kwargs
        _hide_variables_of(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        del kwargs
        _hide_variables_of(config)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the files into the job's folder, which is there by now."""
        del kwargs
        # A job of a sweep may be the first that its process sees.
        content = _hide_variables_of(config)
        overrides = content["hydra"]["overrides"]["task"]
        hydra = {"hydra": content.pop("hydra")}
        folder = Path(config.hydra.runtime.output_dir) / self._subdir
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in (("config", content), ("hydra", hydra), ("overrides", overrides)):
            text = yaml.dump(redact(part), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def _hide_variables_of(config: DictConfig) -> dict[str, Any]:
    """Note which environment variables a config reads; returns it with interpolations unread."""
    content = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
    assert isinstance(content, dict)
    hide_variables(_VARIABLE.findall(str(content)))
    return {str(name): node for name, node in content.items()}


class _Dumper(yaml.CSafeDumper):  # type: ignore[misc] # as above
    """OmegaConf's rules for strings, on libyaml: a quarter of the time."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)
