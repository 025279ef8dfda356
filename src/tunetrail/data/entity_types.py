"""Which types of entities a text names: tagged words become texts with sets of labels."""

from datasets import Dataset, DatasetDict, Features, List, Value

_FEATURES = Features({"text": Value("string"), "labels": List(Value("string"))})


def load_entity_types(*, tagged: DatasetDict, tokens: str, tags: str) -> DatasetDict:
    """Return a text for each row of tagged words, with the types of its entities as ``labels``.

    Args:
        tagged: as another source has read it.
        tokens: the column of words; they are joined by spaces.
        tags: the column of tags in IOB2: ``O``, ``B-TYPE`` or ``I-TYPE``.

    """
    parts = DatasetDict()
    for split, part in tagged.items():
        texts = [" ".join(words) for words in part[tokens]]
        labels = [sorted({tag[2:] for tag in found if tag != "O"}) for found in part[tags]]
        parts[split] = Dataset.from_dict({"text": texts, "labels": labels}, features=_FEATURES)
        parts[split].info.download_checksums = part.info.download_checksums
    return parts
