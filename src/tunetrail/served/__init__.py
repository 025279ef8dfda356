"""The code with which a trained model answers: one module a task, copied into every logged model.

A module imports nothing of this package, so a logged model works without it.
"""

import importlib
from types import ModuleType


def load_module(pipeline_tag: str) -> ModuleType:
    """Load the module that answers for models of a kind, ``text-classification`` for example."""
    return importlib.import_module(f"{__name__}.{pipeline_tag.replace('-', '_')}")
