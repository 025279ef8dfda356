"""The checkout that this package runs from."""

from pathlib import Path

# The folder of ``conf/`` and ``train.py``.
ROOT = Path(__file__).resolve().parents[3]
