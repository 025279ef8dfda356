"""Translations of interface strings: the gettext catalogues of an installed package."""

import difflib
import gettext
import re
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from datasets import Dataset, DatasetDict

from tunetrail.data.sources import checksum
from tunetrail.errors import InputError

# %(name)s, %s, {name}, {}, and tags of HTML: what a translation must take over.
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[sd]|\{\w*\}|</?[a-z]\w*")
# What gettext puts between the context of a message and the message.
_CONTEXT = "\x04"
_NUM_NAMED = 6


def load_catalogues(*, distribution: str, language: str) -> DatasetDict:
    """Read English messages with their translations, as the split "train".

    Its columns are ``prompt`` (a message; one with a context has it in brackets after it),
    ``completion``, and ``part`` (of the distribution). None of its code is imported. The compiled
    catalogues are read, which hold no empty or doubtful translations.

    Of a message with plural forms the singular is taken. A message whose translation has other
    placeholders is left out, and so is one that was read before.

    Raises:
        InputError: the distribution is not installed, or has no catalogue of the language.

    """
    catalogues = _find_catalogues(distribution)
    chosen = [path for path in catalogues if path.parts[-3] == language]
    rows: dict[str, tuple[str, str]] = {}
    for path in chosen:
        for prompt, completion in _read(path):
            rows.setdefault(prompt, (completion, path.parts[-5]))
    if not rows:
        # The messages themselves are English.
        known = sorted({path.parts[-3] for path in catalogues} - {language, "en"})
        near = difflib.get_close_matches(str(language), known, n=_NUM_NAMED, cutoff=0.4)
        named = f"near it are {', '.join(near)}" if near else "some are de, es, fr, ja, pt_BR"
        raise InputError(
            f"data.language={language}: {distribution} translates nothing into it, but into "
            f"{len(known)} languages; {named}"
        )
    train = Dataset.from_dict(
        {
            "prompt": list(rows),
            "completion": [completion for completion, _ in rows.values()],
            "part": [part for _, part in rows.values()],
        }
    )
    train.info.download_checksums = {"/".join(p.parts[-5:]): checksum(p) for p in chosen}
    return DatasetDict({"train": train})


def _find_catalogues(name: str) -> list[Path]:
    """Find all compiled catalogues, those of the package's core first."""
    try:
        files = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError:
        raise InputError(
            f"data.source.distribution={name} is not installed; run `make setup`"
        ) from None
    paths = [file for file in files if file.match("locale/*/LC_MESSAGES/*.mo")]
    return [Path(str(p.locate())) for p in sorted(paths, key=lambda p: (len(p.parts), str(p)))]


def _read(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as file:
        catalogue = gettext.GNUTranslations(file)
    # gettext can look a message up, but has no public name for all of them.
    for key in catalogue._catalog:  # type: ignore[attr-defined] # noqa: SLF001
        # Plural forms have the number of the form beside the message.
        message = key if isinstance(key, str) else key[0]
        if not message:
            continue  # the header
        context, _, text = message.rpartition(_CONTEXT)
        translation = (
            catalogue.gettext(message)
            if isinstance(key, str)
            else catalogue.ngettext(message, message, 1)
        )
        if translation.strip() and _placeholders(text) == _placeholders(translation):
            yield (f"{text} [{context}]" if context else text), translation


def _placeholders(text: str) -> Counter[str]:
    return Counter(_PLACEHOLDER.findall(text))
