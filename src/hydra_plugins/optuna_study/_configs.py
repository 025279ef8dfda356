"""The config of a job: composed as by Hydra in a hundredth of the time, written as by OmegaConf.

Hydra reads every YAML file again for every job. Here each combination of group choices is composed
once and kept; then Hydra's own code applies the plain overrides of a job to a copy. A file that is
edited while the study runs changes none of its later trials.
"""

import copy
import os
import pickle
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML ships no types
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import Container, DictConfig, OmegaConf, open_dict
from omegaconf._utils import OmegaConfDumper

from hydra_plugins.optuna_study._functions import redact_of

# Combinations of group choices that are kept; with more, all are forgotten and composed again.
CACHE_SIZE = 64


class Composer:
    """Composes the configs of the jobs of one sweep."""

    def __init__(self, config_loader: ConfigLoader, master: DictConfig) -> None:
        """Keep what the config of every job starts from.

        Args:
            config_loader: of the sweep.
            master: config of the sweep, with Hydra's node.

        """
        assert isinstance(config_loader, ConfigLoaderImpl)
        self._loader = config_loader
        self._master = master
        self._repository: CachingConfigRepository = (
            config_loader._parse_overrides_and_create_caching_repo(  # noqa: SLF001 - knows the search path that the config itself adds
                master.hydra.job.config_name, []
            )[1]
        )
        self._composed: dict[tuple[str, ...], bytes] = {}

    def compose(self, overrides: Sequence[str], own: Mapping[str, Any] | None = None) -> DictConfig:
        """Compose the config of a job, with Hydra's node, without the number of the job.

        Args:
            overrides: of the job.
            own: dotted key to value; what is set last, and is no override.

        Raises:
            ConfigCompositionException: in Hydra's own words.

        """
        parsed = [_parse(text) for text in overrides]
        chosen = tuple(o.input_line or "" for o in parsed if self._shapes_defaults(o))
        config = self._load(chosen)
        applied = [o for o in parsed if not self._shapes_defaults(o)]
        ConfigLoaderImpl._apply_overrides_to_config(applied, config)  # noqa: SLF001 - Hydra's own rules for +, ++, ~
        with open_dict(config):
            for key, value in (own or {}).items():
                OmegaConf.update(config, key, value, force_add=True)
        job = config.hydra.job
        names = job.config.override_dirname
        app = [override for override in parsed if not override.is_hydra_override()]
        config.hydra.overrides.task = [override.input_line for override in app]
        # It may become the name of a folder.
        job.override_dirname = redact_of(config)(
            get_overrides_dirname(
                overrides=app,
                kv_sep=names.kv_sep,
                item_sep=names.item_sep,
                exclude_keys=names.exclude_keys,
            )
        )
        config.hydra.runtime.cwd = os.getcwd()  # noqa: PTH109 - as Hydra writes it
        # The same time for ${now:…} in every job, as in Hydra's launchers.
        OmegaConf.copy_cache(from_config=self._master, to_config=config)
        return config

    def is_group(self, key: str) -> bool:
        return bool(self._repository.group_exists(key))

    def is_open(self, key: str) -> bool:
        """Whether a key is a group whose choice the config leaves open with ``???``."""
        choices = self._master.hydra.runtime.choices
        return self.is_group(key) and OmegaConf.is_missing(choices, key)

    def _shapes_defaults(self, override: Override) -> bool:
        """Whether an override chooses files to read, or sets Hydra itself."""
        if override.is_hydra_override():
            return True
        return self.is_group(override.key_or_group) and not isinstance(override.value(), dict)

    def _load(self, chosen: tuple[str, ...]) -> DictConfig:
        if chosen not in self._composed:
            if len(self._composed) >= CACHE_SIZE:
                self._composed.clear()
            config = self._loader.load_sweep_config(self._master, list(chosen))
            self._composed[chosen] = pickle.dumps(config)
        config = pickle.loads(self._composed[chosen])  # noqa: S301 - our own bytes; a third of the time of deepcopy
        assert isinstance(config, DictConfig)
        return config


def quoted(text: str) -> str:
    """Quote a text in Hydra's override grammar."""
    return QuotedString(text, Quote.single).with_quotes()


def without_hydra(config: DictConfig) -> DictConfig:
    """Return the config of a job without Hydra's node, as its function gets it."""
    # masked_copy would drop schemas and flags. Hydra's node is three quarters of the config.
    content = config.__dict__["_content"]
    whole = dict(content)
    del content["hydra"]
    try:
        return copy.deepcopy(config)
    finally:
        content.clear()
        content.update(whole)


def number_job(config: DictConfig, number: int) -> None:
    """Write the number of the trial where Hydra's launchers write that of the job."""
    with open_dict(config):
        config.hydra.job.id = str(number)
        config.hydra.job.num = number


def plain(config: Container) -> Any:
    """Turn a config into mappings and lists, and keep interpolations as they are."""
    return OmegaConf.to_container(config, enum_to_str=True)


def save_yaml(content: Any, path: Path) -> None:
    """Write what OmegaConf writes, in a quarter of the time."""
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.CSafeDumper):  # type: ignore[misc] # as above
    """OmegaConf's rules for strings, with libyaml."""


_Dumper.add_representer(str, OmegaConfDumper.str_representer)


@lru_cache(maxsize=1024)
def _parse(text: str) -> Override:
    return OverridesParser.create().parse_overrides([text])[0]
