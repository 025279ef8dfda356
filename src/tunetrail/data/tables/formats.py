"""Which format a file has. The command line reads it: nothing heavy is imported here."""

from pathlib import Path

from tunetrail.errors import InputError

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".conll": "conll",
    ".iob": "conll",
    ".bio": "conll",
    ".parquet": "parquet",
}
# Formats in which answers have no place.
WRITTEN_AS = {"text": "tsv", "conll": "jsonl"}


def find_format(path: Path, *, name: str) -> str:
    """Find the format of a file by its suffix.

    Raises:
        InputError: it is none of those that are read.

    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    is_packed = suffixes[-1:] == [".gz"] and len(suffixes) > 1
    suffix = suffixes[-2 if is_packed else -1] if suffixes else "no suffix"
    found = FORMATS.get(suffix)
    if found is None or (is_packed and found == "parquet"):
        raise InputError(
            f"{name}: {suffix}{'.gz' * is_packed} is not a format that is read; use one of "
            f"{', '.join(FORMATS)} (all but the last also with .gz), or name the format"
        )
    return found
