"""A trained model at work: one self-contained module for each pipeline tag, and who uses them."""

import importlib
from types import ModuleType


def load_module(pipeline_tag: str) -> ModuleType:
    """Load the module that answers for models of a kind, ``text-classification`` for example."""
    return importlib.import_module(f"{__name__}.{pipeline_tag.replace('-', '_')}")
