"""Sets of entity types from tagged words."""

from datasets import Dataset, DatasetDict

from tunetrail.data.entity_types import load_entity_types


def test_a_text_has_each_type_of_its_entities_once() -> None:
    rows = Dataset.from_dict(
        {
            "words": [["anna", "meets", "bo", "in", "new", "york"], ["no", "one"]],
            "ner": [["B-per", "O", "B-per", "O", "B-geo", "I-geo"], ["O", "O"]],
        }
    )
    rows.info.download_checksums = {"rows.conll": {"num_bytes": 1, "checksum": "a"}}
    found = load_entity_types(tagged=DatasetDict({"train": rows}), tokens="words", tags="ner")
    assert found["train"].to_list() == [
        {"text": "anna meets bo in new york", "labels": ["geo", "per"]},
        {"text": "no one", "labels": []},
    ]
    assert found["train"].info.download_checksums == rows.info.download_checksums
