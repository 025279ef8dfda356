"""How models answer: one self-contained module for each kind, a copy of which every model carries.

A module imports nothing of this package, so that a logged model works where it is not installed.
"""

import importlib
from types import ModuleType


def load_module(pipeline_tag: str) -> ModuleType:
    """Load the module that answers for models of a kind, ``text-classification`` for example."""
    return importlib.import_module(f"{__name__}.{pipeline_tag.replace('-', '_')}")
