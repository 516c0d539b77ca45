"""Labels of channels: which channels of which tensors of a network must be removed together.

Every element of a computed tensor carries the label of the channel it belongs to. Operations that move elements run on
the labels themselves; operations that combine elements join labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autosparse.lazy_torch import torch

CONSTANT = -1
"""Label of elements that belong to no channel: they stay."""


@dataclass
class Labels:
    """Equivalence classes of channel labels, and the classes that must stay with the reason."""

    parents: list[int] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    """root -> reason why its channels stay"""

    def new(self, count: int) -> torch.Tensor:
        """Create `count` labels, int64 `[count]`."""
        first = len(self.parents)
        self.parents += range(first, first + count)
        return torch.arange(first, first + count)

    def root(self, label: int) -> int:
        """Return the representative of a label's class."""
        while self.parents[label] != label:
            self.parents[label] = self.parents[self.parents[label]]
            label = self.parents[label]
        return label

    def roots(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the representatives of labels; constant elements and channels that must stay are `CONSTANT`."""
        distinct, inverse = compressed(labels).unique(return_inverse=True)
        known = [CONSTANT if label < 0 else self.root(label) for label in distinct.tolist()]
        known = [CONSTANT if root in self.reasons else root for root in known]
        return torch.tensor(known, dtype=torch.int64)[inverse].expand(labels.shape)

    def join(self, first: torch.Tensor, second: torch.Tensor, reason: str) -> bool:
        """Join labels of equal positions; a label joined with a constant must stay. Return whether anything changed."""
        one, other = torch.broadcast_tensors(*_both_compressed(first, second))
        changes = [self._pair(a, b, reason) for a, b in zip(*map(torch.Tensor.tolist, pairs(one, other)), strict=True)]
        return any(changes)

    def fix(self, labels: torch.Tensor, reason: str) -> None:
        """Keep the channels of some labels."""
        for label in compressed(labels).unique().tolist():
            self._fix(label, reason)

    def _fix(self, label: int, reason: str) -> bool:
        if label < 0 or (root := self.root(label)) in self.reasons:
            return False
        self.reasons[root] = reason
        return True

    def _pair(self, one: int, other: int, reason: str) -> bool:
        if one < 0 or other < 0:
            return self._fix(max(one, other), reason)
        first, second = self.root(one), self.root(other)
        if first == second:
            return False
        self.parents[second] = first
        if (why := self.reasons.pop(second, None)) is not None:
            self.reasons.setdefault(first, why)
        return True


def constant(shape: Sequence[int]) -> torch.Tensor:
    """Return the labels of a tensor whose elements belong to no channel."""
    return torch.full([1] * len(shape), CONSTANT).expand(torch.Size(shape))


def along(labels: torch.Tensor, dim: int, shape: Sequence[int]) -> torch.Tensor:
    """Return a vector of labels as those of a tensor of this shape that differ along `dim` only."""
    sizes = [1] * len(shape)
    sizes[dim] = len(labels)
    return labels.view(sizes).expand(torch.Size(shape))


def compressed(labels: torch.Tensor) -> torch.Tensor:
    """Return labels with size 1 in every dimension along which they do not vary."""
    for dim in range(labels.ndim):
        if labels.shape[dim] <= 1:
            continue
        first = labels.narrow(dim, 0, 1)
        if labels.stride(dim) == 0 or bool((labels == first).all()):
            labels = first
    return labels


def pairs(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distinct pairs of two tensors of one shape, of numbers from `CONSTANT` on, as two vectors."""
    base = int(second.max()) + 2
    codes = ((first.flatten() + 1) * base + second.flatten() + 1).unique()
    return codes // base - 1, codes % base - 1


def varying(labels: torch.Tensor) -> list[int]:
    """Return the dimensions along which labels vary."""
    return [dim for dim, size in enumerate(compressed(labels).shape) if size > 1]


def first_along(labels: torch.Tensor, dims: Iterable[int]) -> torch.Tensor:
    """Return the first labels along some dimensions, whose size becomes 1."""
    for dim in dims:
        labels = labels.narrow(dim, 0, min(1, labels.shape[dim]))
    return labels


def vector(labels: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the labels along `dim`, at the first position of every other dimension."""
    return first_along(labels, (other for other in range(labels.ndim) if other != dim)).reshape(-1)


def distinct_after(labels: torch.Tensor, dim: int) -> int:
    """Return the number of labels that remain distinct if all are joined along every dimension but `dim`."""
    rows = compressed(labels).movedim(dim, 0).flatten(1).unique(dim=0)
    known = Labels([*range(int(rows.max()) + 2)])  # position 0 is `CONSTANT`
    for row in (rows + 1).tolist():
        for label in row[1:]:
            known.parents[known.root(label)] = known.root(row[0])
    return len({known.root(label) for label in (rows[:, 0] + 1).tolist()})


def _both_compressed(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rank = max(first.ndim, second.ndim)
    return tuple(compressed(one.reshape([1] * (rank - one.ndim) + [*one.shape])) for one in (first, second))  # type: ignore[return-value]
