"""Commands to paste, which compose the same config again."""

import shlex
import sys

from hydra._internal.utils import get_args_parser
from optuna.trial import FrozenTrial

from hydra_plugins.optuna_study._errors import SweepError
from hydra_plugins.optuna_study._spec.settings import Settings
from hydra_plugins.optuna_study._spec.space import as_text
from hydra_plugins.optuna_study._spec.sweep_spec import SweepSpec


def format_continue_command(settings: Settings) -> str:
    """Write the command that continues this study, wherever its name came from."""
    key = settings.keys["study_name"]
    typed = [text for text in sys.argv if not text.lstrip("+").startswith(f"{key}=")]
    return shlex.join(["python", *typed, f"{key}={as_text(settings.study_name)}"])


def format_run_command(spec: SweepSpec, trial: FrozenTrial) -> str:
    """Write the command of a single run at the point of a trial.

    A trial of an earlier search space, or one that somebody else has added, gets no command.
    """
    try:
        point = spec.write_overrides(trial)
    except SweepError as error:
        return f"(trial {trial.number} is not in the present search space: {error})"
    given, _ = get_args_parser().parse_known_args(sys.argv[1:])
    places = {
        "--config-path": given.config_path,
        "--config-name": given.config_name,
        "--config-dir": given.config_dir,
    }
    flags = [part for flag, value in places.items() if value for part in (flag, value)]
    return shlex.join(["python", sys.argv[0], *flags, *spec.run_overrides, *point])
