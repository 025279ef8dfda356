"""Kill the first run of a new folder at every moment of its first seconds, and give the command again.

    python benchmarks/kills.py                 # every 50 ms of ten seconds: 200 kills, half an hour
    python benchmarks/kills.py --study --every 0.25
    python benchmarks/kills.py --older         # each folder has a store of an older MLflow

After each kill the store must be one that MLflow reads, or none at all; the same command must end
well, with the killed run closed; and no temporary file may be left. The killed process is a real one
from its first import on. The command after it runs in a fork of this process, which has imported
everything, so that 200 of them end in minutes. The last line counts what the kills met.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import process_environment  # noqa: E402, F401 - first: libraries read it when they are imported
import train as entrypoint  # noqa: E402
from architectures import ARCHITECTURES  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402
from tests_of_stores import make_older_store  # noqa: E402
from toys import make_rows, tiny_overrides, write_csv  # noqa: E402

import tunetrail.pipeline  # noqa: E402, F401 - so that each fork has it
import tunetrail.studies.callback  # noqa: E402, F401 - as above
from tunetrail.config.scratch import PREFIX  # noqa: E402
from tunetrail.tracking.database import State, find_state  # noqa: E402
