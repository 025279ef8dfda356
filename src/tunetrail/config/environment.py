"""The environment of this process, read whole."""

import os


def read_environment() -> dict[str, str]:
    """Copy the environment, while threads of libraries add to it and take from it.

    MLflow's telemetry sets a variable from a thread of its own. ``os.environ.items()`` looks each
    name up after it has listed them all, and raises KeyError for one that has gone meanwhile.
    """
    found = {name: os.environ.get(name) for name in list(os.environ)}
    return {name: value for name, value in found.items() if value is not None}
