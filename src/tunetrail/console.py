"""Silence what libraries print."""

import warnings

import datasets
import optuna
import transformers


def quiet_libraries() -> None:
    """Silence the libraries: a run shows one progress bar, what the checks found, one summary.

    transformers would print a table of the weights of a new head, which is one line in
    :mod:`tunetrail.models.loading`, and a progress bar for each of its steps.
    """
    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Optuna marks some pruners that a config may choose as experimental.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
