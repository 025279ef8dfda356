"""How models answer: one module for each kind, named by its pipeline tag, a word of the hub.

This folder imports nothing of the rest of the package, and every logged model carries a copy of it:
that is the code that answers ``mlflow.pyfunc.load_model`` and ``mlflow models serve``, where the
package is not installed. ``tunetrail predict`` uses the same. A new kind is one new module with a
class ``ServedModel``: see :mod:`.base`.
"""

import importlib
from types import ModuleType


def load_module(pipeline_tag: str) -> ModuleType:
    """Load the module that answers for models of a kind, ``text-classification`` for example.

    Raises:
        ModuleNotFoundError: there is none.

    """
    return importlib.import_module(f"{__name__}.{pipeline_tag.replace('-', '_')}")
