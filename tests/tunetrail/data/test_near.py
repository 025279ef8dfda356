"""Near duplicates: planted leaks are found by kind, other texts are not, and time is bounded."""

import random
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from datasets import DatasetDict
from planted import DIFFERENT, NEAR, NORMALISED, Plant

from tunetrail.data import near
from tunetrail.data.duplicates import normalise
from tunetrail.data.near import compare_sets, find_near, group_near, read_words


def find(some: list[str], others: list[str]) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for found in find_near(*compare_sets([some, others])):
        pairs |= set(zip(found.source.tolist(), found.held_out.tolist(), strict=True))
    return pairs


def are_near(one: str, other: str) -> bool:
    """The definition for texts of at most LONG words, without any index."""
    shorter, longer = sorted((read_words(one), read_words(other)), key=len)
    common = (Counter(shorter) & Counter(longer)).total()
    if len(shorter) < 4 or (len(shorter) < 8 and len(" ".join(shorter)) < 45):
        return False
    if 2 * common >= 0.8 * (len(shorter) + len(longer)):
        return True
    neighbours = set(pairwise(longer))
    held = [pair in neighbours for pair in pairwise(shorter)]
    return common >= 0.9 * len(shorter) and sum(held) >= 0.9 * len(held)


@pytest.fixture(scope="module")
def short_texts(some_tweets: DatasetDict) -> list[str]:
    texts = {normalise(text): text for text in some_tweets["train"]["text"]}
    return [text for key, text in texts.items() if len(key.split()) >= 8][:500]


@pytest.fixture(scope="module")
def long_texts() -> list[str]:
    owners = (np, np.linalg, np.fft, np.random)
    found = [
        getattr(getattr(owner, name), "__doc__", "") for owner in owners for name in dir(owner)
    ]
    texts = {normalise(text): text for text in found if isinstance(text, str)}
    return [text for key, text in texts.items() if len(key.split()) >= 40][:120]


def planted_share(plant: Plant, texts: list[str], others: list[str]) -> float:
    draw = random.Random(0)
    keys = [normalise(text) for text in texts], [normalise(plant(t, draw, others)) for t in texts]
    pairs = find(*keys)
    return float(
        np.mean(
            [
                one == other or (n, n) in pairs
                for n, (one, other) in enumerate(zip(*keys, strict=True))
            ]
        )
    )


@pytest.mark.parametrize("kind", NORMALISED)
def test_every_normalised_leak_is_found(
    short_texts: list[str], long_texts: list[str], kind: str
) -> None:
    draw = random.Random(0)
    for text in (*short_texts[:400], *long_texts[:100]):
        assert normalise(NORMALISED[kind](text, draw, short_texts)) == normalise(text)


@pytest.mark.parametrize("kind", NEAR)
def test_near_leaks_are_found(short_texts: list[str], long_texts: list[str], kind: str) -> None:
    others = short_texts[300:]
    assert planted_share(NEAR[kind], short_texts[:300], others) > 0.97
    assert planted_share(NEAR[kind], long_texts, others) > 0.97


@pytest.mark.parametrize("kind", DIFFERENT)
def test_texts_that_share_words_are_not_near(
    short_texts: list[str], long_texts: list[str], kind: str
) -> None:
    others = short_texts[300:]
    assert planted_share(DIFFERENT[kind], short_texts[:300], others) < 0.01
    assert planted_share(DIFFERENT[kind], long_texts, others) < 0.08


def test_the_index_finds_exactly_the_pairs_of_the_definition() -> None:
    draw = random.Random(0)
    words = [f"w{n}" for n in range(9)]
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 14))) for _ in range(300)]
    texts += [f"{text} and {draw.choice(texts)}" for text in texts[:60]]
    some, others = texts[:200], texts[200:]
    expected = {
        (i, j)
        for i, one in enumerate(some)
        for j, other in enumerate(others)
        if are_near(one, other)
    }
    assert len(expected) > 100
    assert find(some, others) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("I just saw a google car", "I finally saw a google car", False),  # too short to tell
        ("今天天气很好我们去公园", "今天天气很好我们去学校", True),  # a character is a word
        ("今天天气很好我们去公园", "昨天晚上下了一场大雨啊", False),
        ("acgt" * 30, "acgt" * 15 + "t" + "acgt" * 15, True),  # no words at all
        ("", "a", False),
    ],
)
def test_what_has_no_words_or_few(one: str, other: str, expected: bool) -> None:
    assert bool(find([one], [other])) is expected
    assert bool(find([other], [one])) is expected


def test_groups_hold_what_is_near_over_others() -> None:
    chain = [" ".join(f"w{n}" for n in range(start, start + 10)) for start in range(4)]
    assert len(set(group_near([*chain, "something else that is near to nothing here"]))) == 2
    assert not find(chain[:1], chain[3:])
    assert len(set(group_near(["enter a valid number", "please enter a valid number"]))) == 1


@pytest.mark.parametrize("kind", ["ten texts", "boilerplate", "mostly boilerplate", "long"])
def test_repetition_is_no_square(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty thousand texts in seconds, whatever they share; what was left out is said."""
    monkeypatch.setattr(near, "_MOST_HITS", 20_000_000)
    monkeypatch.setattr(near, "_MOST_CHECKED", 20_000_000)
    draw = random.Random(0)
    words = [f"w{n}" for n in range(5000)]
    common = " ".join(draw.sample(words, 60))
    if kind == "long":
        texts = [" ".join(draw.choices(words, k=3000)) for _ in range(40)]
    elif kind == "ten texts":
        texts = [f"{common} {n % 10}" for n in range(10)]
    else:
        own = 40 if kind == "boilerplate" else 5
        texts = [f"{common} {' '.join(draw.sample(words, own))}" for _ in range(6000)]
    start = time.perf_counter()
    half = len(texts) // 2
    sets = compare_sets([texts[:half], texts[half:]])
    source: set[int] = set()
    held_out: set[int] = set()
    is_complete = True
    for found in find_near(*sets):
        held_out |= set(found.held_out.tolist())
        source |= set(found.source.tolist())
        is_complete &= found.is_complete
    assert time.perf_counter() - start < 8
    assert is_complete == (kind != "mostly boilerplate")
    assert len(held_out) == {"ten texts": half, "mostly boilerplate": half}.get(kind, 0)
    assert len(source) == len(held_out)
