"""Groups of rows of which each split should have its share, where rows have sets of labels."""

from collections import Counter
from collections.abc import Collection, Sequence

from datasets import ClassLabel

# A smaller group has no share of its own in each split.
_LEAST = 30


class RarestLabel:
    """Groups rows by the rarest of their labels; those without a label are a group, too.

    The rarest label is the one that a split would lack first, and there are no more groups than
    labels, while the number of different sets grows with every label. A small group joins the
    largest one.

    Args:
        train: the labels of each row.
        none: name of the group without a label.

    """

    def __init__(self, train: Sequence[Collection[str]], *, none: str) -> None:
        self._none = none
        self._counts = Counter(label for labels in train for label in set(labels))
        groups = Counter(self._rarest(labels) for labels in train)
        self._largest = groups.most_common(1)[0][0] if groups else none
        kept = {group for group, number in groups.items() if number >= _LEAST} | {self._largest}
        self._names = sorted(kept)
        self.feature = ClassLabel(names=self._names)

    def __call__(self, labels: Collection[str]) -> int:
        """Return the code of the group of a row with these labels."""
        group = self._rarest(labels)
        return self._names.index(group if group in self._names else self._largest)

    def _rarest(self, labels: Collection[str]) -> str:
        return min(labels, key=lambda label: (self._counts[label], label), default=self._none)
