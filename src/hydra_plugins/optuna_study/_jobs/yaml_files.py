"""Configs as YAML files, the same as OmegaConf writes in four times the time."""

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML ships no types
from omegaconf import Container, OmegaConf
from omegaconf._utils import OmegaConfDumper


def plain(config: Container) -> Any:
    """Turn a config into mappings and lists, and keep interpolations as they are."""
    return OmegaConf.to_container(config, enum_to_str=True)


def save_yaml(content: Any, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.CSafeDumper):  # type: ignore[misc] # as above
    """OmegaConf's rules for strings, with libyaml."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)
