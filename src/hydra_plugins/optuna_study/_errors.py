from hydra.errors import CompactHydraException


class SweepError(CompactHydraException):
    """A sweep cannot go on; the message is one line that Hydra prints without a traceback."""


def first_line(error: BaseException) -> str:
    """``Type: message`` with the first line of the message, for a place that holds one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
