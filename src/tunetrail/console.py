"""What libraries print, held back."""

import warnings

import datasets
import optuna
import transformers


def quiet_libraries() -> None:
    """Leave the screen to the run: one bar, one summary, and what the checks have to say.

    transformers would print a table of the weights of a new head, for which there is one line in
    :mod:`tunetrail.models.loading`, and a bar for each of its steps.
    """
    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A pruner that the config chooses by name may be one that Optuna marks as experimental.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
