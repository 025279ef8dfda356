"""The code with which trained models answer: one module a task, copied into every logged model.

A module is named by its pipeline tag, the hub's word for the task. This folder imports nothing of
the rest of the package: its copy answers ``mlflow.pyfunc.load_model`` and ``mlflow models serve``
where the package is not installed. ``tunetrail predict`` uses it, too. A new task is one new module
with a class ``ServedModel``: see :mod:`.base`.
"""

import importlib
from types import ModuleType


def load_module(pipeline_tag: str) -> ModuleType:
    """Load the module that answers for a pipeline tag, for example ``text-classification``.

    Raises:
        ModuleNotFoundError: there is none.

    """
    return importlib.import_module(f"{__name__}.{pipeline_tag.replace('-', '_')}")
