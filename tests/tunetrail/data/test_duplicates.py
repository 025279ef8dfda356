"""Which texts are duplicates."""

import pytest
from datasets import DatasetDict

from tunetrail.data.duplicates import normalise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Good  morning\n", "good morning"),
        ("Sell it!!! now", "sell it, now."),
        ("\uff26ull width", "full width"),
        ("news https://t.co/a1 today", "news http://t.co/zz today"),
        ("www.example.org/x read", "read"),
        ("@anna thanks", ".@bob thanks"),
        ("nice :)", "nice :-)"),
        ("नमस्ते, दुनिया", "नमस्ते दुनिया"),
    ],
)
def test_duplicates_of_a_text_are_the_same(one: str, other: str) -> None:
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("costs 5", "costs 6"),
        ("what a day :)", "what a day :("),
        ("what a day 😍", "what a day 😡"),
        ("mail a@example.org", "mail b@example.net"),
        ("...", "!!!"),
        ("@anna", "@bob"),
        ("naïve", "naive"),
    ],
)
def test_texts_that_may_differ_in_label_are_not_the_same(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_normalising_twice_changes_nothing(tweets: DatasetDict) -> None:
    for text in tweets["train"]["text"][:500]:
        assert normalise(normalise(text)) == normalise(text)
