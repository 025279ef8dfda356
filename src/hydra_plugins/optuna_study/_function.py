"""Functions that a config names as MODULE.FUNCTION."""

import importlib
from typing import Any

from hydra_plugins.optuna_study._errors import SweepError, first_line


def load_function(name: str, *, key: str) -> Any:
    """Import the function that a key names.

    Raises:
        SweepError: there is no such function.

    """
    try:
        module, _, function = name.rpartition(".")
        return getattr(importlib.import_module(module), function)
    except Exception as error:
        raise SweepError(
            f"{key}={name}: no such function ({first_line(error)}); give MODULE.FUNCTION"
        ) from error
