"""Where the checkout lies that this package runs from."""

from pathlib import Path

# ``conf/`` and ``train.py`` are in it.
ROOT = Path(__file__).resolve().parents[3]
