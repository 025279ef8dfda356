"""The one exception that means: what was asked for cannot be done, and this is the remedy."""


class InputError(ValueError):
    """A person's input cannot be used.

    The message is one line: the value, what was found, and the remedy with its config key.
    ``train.py`` prints that line alone; the traceback is there with ``HYDRA_FULL_ERROR=1``.
    """
