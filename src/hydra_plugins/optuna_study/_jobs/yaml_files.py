"""Configs as YAML files, as OmegaConf writes them in four times the time."""

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML ships no types
from omegaconf import Container, OmegaConf
from omegaconf._utils import OmegaConfDumper


def plain(config: Container) -> Any:
    """Turn a config into mappings and lists, interpolations as written."""
    return OmegaConf.to_container(config, enum_to_str=True)


def save_yaml(content: Any, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.CSafeDumper):  # type: ignore[misc] # as above
    """OmegaConf's rules for strings, on libyaml."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)
