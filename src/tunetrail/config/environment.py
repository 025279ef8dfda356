"""The environment of this process."""

import os


def read_environment() -> dict[str, str]:
    """Copy the environment while threads of libraries change it.

    A thread of MLflow's telemetry sets and deletes a variable. ``os.environ.items()`` lists all
    names and then looks each one up: it raises KeyError if one was deleted in between.
    """
    found = {name: os.environ.get(name) for name in list(os.environ)}
    return {name: value for name, value in found.items() if value is not None}
