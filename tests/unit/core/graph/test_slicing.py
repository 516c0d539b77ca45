"""A smaller network's tensors: taken from the dense ones, put back, and stored."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autosparse.core.graph.slicing import Slicing, from_named, named


@st.composite
def slicings(draw: st.DrawFn) -> tuple[Slicing, dict[str, torch.Tensor]]:
    """Return a slicing of a random state, and the state."""
    state, kept = {}, {}
    for name in ("a.weight", "b.weight", "buffer"):
        shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
        state[name] = torch.randn(shape)
        dims = draw(st.sets(st.integers(0, len(shape) - 1)))
        kept[name] = {
            dim: torch.tensor(sorted(draw(st.sets(st.integers(0, shape[dim] - 1), min_size=1)))) for dim in dims
        }
    sizes = draw(st.dictionaries(st.sampled_from(["a.heads", "width"]), st.integers(1, 9)))
    scales = draw(st.dictionaries(st.sampled_from(["a.weight"]), st.floats(0.5, 2)))
    return Slicing({name: parts for name, parts in kept.items() if parts}, sizes, scales), state


@settings(max_examples=30, deadline=None)
@given(slicings())
def test_what_is_taken_comes_back(drawn: tuple[Slicing, dict[str, torch.Tensor]]) -> None:
    """The kept elements return to their positions; the others are those of the dense state."""
    slicing, state = drawn
    smaller = slicing.take(state)
    back = slicing.put({name: 2 * tensor for name, tensor in smaller.items()}, state)

    assert all(torch.equal(2 * tensor, slicing.take(back)[name]) for name, tensor in smaller.items())
    assert all(torch.equal(tensor, slicing.put(smaller, state)[name]) for name, tensor in state.items())
    changed = {name: int((back[name] != tensor).sum()) for name, tensor in state.items()}
    assert changed == {name: tensor.numel() for name, tensor in smaller.items()}


@settings(max_examples=30, deadline=None)
@given(slicings())
def test_a_stored_slicing_is_the_same(drawn: tuple[Slicing, dict[str, torch.Tensor]]) -> None:
    """Its tensors by name give it back."""
    slicing, state = drawn
    again = from_named(named(slicing))

    assert (slicing.sizes, slicing.scales) == (again.sizes, again.scales)
    assert all(torch.equal(tensor, again.take(state)[name]) for name, tensor in slicing.take(state).items())


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("other/a.weight.0", torch.tensor([0])),
        ("slices/a.weight", torch.tensor([0])),
        ("slices/a.weight.0", torch.tensor([1, 0])),
        ("slices/a.weight.0", torch.tensor([1, 1])),
        ("slices/a.weight.0", torch.tensor([-1, 0])),
        ("slices/a.weight.0", torch.tensor([0.0])),
        ("slices/a.weight.0", torch.tensor([], dtype=torch.int64)),
        ("sizes/a.heads", torch.tensor(0)),
        ("sizes/a.heads", torch.tensor([1, 2])),
    ],
)
def test_a_damaged_slicing_is_refused(name: str, tensor: torch.Tensor) -> None:
    """With the name of the entry."""
    with pytest.raises(ValueError, match=f"`{name}` is no slice"):
        from_named({name: tensor})
