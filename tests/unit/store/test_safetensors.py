"""Named tensors as bytes: equal tensors are equal bytes, and odd bytes are refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from autosparse.store import ShardedRows, dump_tensors, load_tensors
from autosparse.store.safetensors import read_array
from tests.unit.core.conftest import assert_same, seeded

TYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.float16, torch.bfloat16, torch.int32,
    torch.uint32, torch.float32, torch.int64, torch.uint64, torch.float64,
]  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2, 3), (2, 3, 4, 5)])
def test_round_trip(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Tensors come back bit for bit, with their type and shape."""
    tensor = (torch.rand(shape, generator=seeded()) * 9).to(dtype)

    loaded = load_tensors(dump_tensors({"a": tensor}))

    assert_same({"a": tensor}, loaded)
    assert shape == loaded["a"].shape


def test_odd_numbers_survive() -> None:
    """Not-a-number, infinities, minus zero and the smallest numbers keep their bits."""
    tensor = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-45])

    loaded = load_tensors(dump_tensors({"a": tensor}))["a"]

    assert torch.equal(tensor.view(torch.int32), loaded.view(torch.int32))


def test_no_tensors() -> None:
    """Nothing at all is written and read."""
    assert {} == load_tensors(dump_tensors({}))


@given(names=st.lists(st.text(st.characters(codec="utf-8"), max_size=8), unique=True, max_size=6))
def test_any_name_survives(names: list[str]) -> None:
    """Names may hold anything but the one that the format keeps for itself."""
    tensors = {name: torch.tensor([float(n)]) for n, name in enumerate(names) if name != "__metadata__"}

    loaded = load_tensors(dump_tensors(tensors))

    assert {name: tensor.item() for name, tensor in tensors.items()} == {k: v.item() for k, v in loaded.items()}


def layouts(tensor: Tensor) -> list[Tensor]:
    """The same numbers in other layouts, some of them views of something larger, some sharing memory."""
    padded = torch.zeros(2, 6, 4, 5)
    padded[:, ::2] = tensor
    return [
        tensor.contiguous(memory_format=torch.channels_last),
        tensor.transpose(0, 3).contiguous().transpose(0, 3),
        padded[:, ::2],
        tensor.clone().requires_grad_(),
        torch.nn.Parameter(tensor),
    ]


@pytest.mark.parametrize("number", range(5))
def test_equal_tensors_are_equal_bytes(number: int) -> None:
    """The layout in memory does not show in the bytes, and writing changes nothing."""
    tensor = torch.rand(2, 3, 4, 5, generator=seeded())
    other = layouts(tensor)[number]
    stride = other.stride()

    assert dump_tensors({"a": tensor}) == dump_tensors({"a": other})
    assert stride == other.stride()


def test_order_of_names_is_not_in_the_bytes() -> None:
    """The same tensors named in another order are the same bytes, and come back in one order."""
    first, second = torch.zeros(3), torch.ones(2)
    data = dump_tensors({"a": first, "b": second})

    assert data == dump_tensors({"b": second, "a": first})
    assert ["a", "b"] == list(load_tensors(data))


def test_shared_memory_is_written_twice() -> None:
    """Tensors that share memory, as tied weights do, are both written."""
    tensor = torch.arange(6.0)

    assert_same({"a": tensor, "b": tensor[:3]}, load_tensors(dump_tensors({"a": tensor, "b": tensor[:3]})))


def packed(header: object, body: bytes = b"\0\0\0\0") -> bytes:
    """A file with this header, given as JSON text or as a value, and body."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(**changes: object) -> dict[str, Any]:
    """The header's entry of one float32 number, changed; None leaves a field out."""
    fields = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}
    return {name: value for name, value in fields.items() if value is not None}


ONE = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HOSTILE = {
    "empty": b"",
    "short": b"1234567",
    "header beyond the file": (99).to_bytes(8, "little") + b"{}",
    "huge header": (2**63).to_bytes(8, "little") + b"{}",
    "not JSON": packed(b'{"a"'),
    "not text": packed(b"\xff\xfe\xfa"),
    "number": packed(b"3"),
    "null": packed(b"null"),
    "strings": packed(b'["ab", "cd"]'),
    "truncated": packed({"a": entry()}, b"\0\0\0"),
    "trailing bytes": packed({"a": entry()}, b"\0\0\0\0\0"),
    "gap": packed({"a": entry(data_offsets=[4, 8])}, b"\0" * 8),
    "overlap": packed({"a": entry(), "b": entry()}),
    "repeated name": packed(b'{"a":' + ONE + b',"a":' + ONE.replace(b"[0,4]", b"[4,8]") + b"}", b"\0" * 8),
    "absurd shape": packed({"a": entry(shape=[2**40])}),
    "overflowing shape": packed({"a": entry(shape=[2**33, 2**31 + 1])}),
    "shape of text": packed({"a": entry(shape=["1"])}),
    "shape that is not a number": packed(b'{"a":' + ONE.replace(b"[1]", b"[NaN]") + b"}"),
    "offsets of text": packed({"a": entry(data_offsets=["0", "4"])}),
    "one offset": packed({"a": entry(data_offsets=[0])}),
    "offsets turned round": packed({"a": entry(data_offsets=[4, 0])}),
    "list": packed([1, 2]),
    "empty list": packed([], b""),
    "entry that is a list": packed({"a": [1]}),
    "entry that is a number": packed({"a": 1}),
    "no type": packed({"a": entry(dtype=None)}),
    "no shape": packed({"a": entry(shape=None)}),
    "no offsets": packed({"a": entry(data_offsets=None)}),
    "unknown type": packed({"a": entry(dtype="F31")}),
    "type that is a list": packed({"a": entry(dtype=[])}),
    "negative shape": packed({"a": entry(shape=[-1, -1])}),
    "fractional shape": packed({"a": entry(shape=[1.0])}),
    "shape that is a number": packed({"a": entry(shape=1)}),
    "nothing by far too much": packed({"a": entry(shape=[0, 2**70], data_offsets=[0, 0])}, b""),
    "repeated field": packed(b'{"a":{"dtype":"F32",' + ONE[1:] + b"}"),
    "metadata that is a number": packed({"__metadata__": 3, "a": entry()}),
    "metadata in metadata": packed({"__metadata__": {"a": {"b": "c"}}, "a": entry()}),
}
ESCAPING = {
    "nested without end": packed(b"[" * 100_000),
    "no offset": packed({"a": entry(data_offsets=[])}),
    "infinite offsets": packed(b'{"a":' + ONE.replace(b"[0,4]", b"[-Infinity,Infinity]") + b"}"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_odd_bytes_are_refused(what: str) -> None:
    """Bytes that are not exactly a file of tensors are a ValueError, before memory is taken for them."""
    with pytest.raises(ValueError, match=r"."):
        load_tensors(HOSTILE[what])


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_types_that_no_check_supports_are_refused(dtype: torch.dtype) -> None:
    """No check of finite values supports them."""
    data = dump_tensors({"w": torch.zeros(2).to(dtype)})

    with pytest.raises(ValueError, match="a tensor has type"):
        load_tensors(data)


@pytest.mark.parametrize("what", ESCAPING)
def test_malformed_headers_are_refused(what: str) -> None:
    """A header that is too deep, lacks an offset or has one without end is a ValueError too."""
    with pytest.raises(ValueError, match=r"."):
        load_tensors(ESCAPING[what])


ROW = {"dtype": "U8", "shape": [1, 4], "data_offsets": [0, 4]}
ODD_ROWS = {
    **{what: data for what, data in {**HOSTILE, **ESCAPING}.items() if data},
    "shape beyond the bytes": packed({"a": {**ROW, "shape": [1, 10_000, 10_000]}}),
    "shape within the bytes": packed({"a": {**ROW, "shape": [1, 3]}}),
    "no row": packed({"a": {**ROW, "shape": []}}, b"\0"),
    "flags for bytes": packed({"a": {**ROW, "shape": [True, 4]}}),
    "offsets before the file": packed({"a": {**ROW, "data_offsets": [-4, 0]}}),
    "offsets beyond the file": packed({"a": {**ROW, "data_offsets": [2**62, 2**62 + 4]}}),
    "another type": packed({"a": {**ROW, "dtype": "I8"}}),
    "another tensor": packed({"b": ROW}),
    "a field more": packed({"a": ROW, "b": 5}),
}


ONLY_ROWS = {"no row", "another type"}  # tensors of other forms

READERS: dict[str, Callable[[Path], object]] = {
    "rows": lambda path: ShardedRows([path], "a"),
    "array": lambda path: read_array(path, "a"),
}


@pytest.mark.parametrize("reader", READERS)
def test_rows_of_odd_files_are_refused(reader: str, tmp_path: Path) -> None:
    """Whatever is read of a file, its whole header is checked."""
    path = tmp_path / "a.safetensors"
    for what, data in ODD_ROWS.items():
        path.write_bytes(data)
        if reader == "rows" or what not in ONLY_ROWS:
            with pytest.raises(ValueError, match=r"."):
                READERS[reader](path)


@given(data=st.data())
def test_every_cut_is_refused(data: st.DataObject) -> None:
    """A file cut short anywhere is refused."""
    whole = dump_tensors({"a": torch.arange(5.0), "b": torch.ones(3, dtype=torch.bool)})

    with pytest.raises(ValueError, match=r"."):
        load_tensors(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_metadata_of_others_is_read_over() -> None:
    """Files that carry metadata, as other programs write them, load without it."""
    assert ["a"] == list(load_tensors(packed({"__metadata__": {"format": "pt"}, "a": entry()})))


PIXELS = torch.arange(7 * 2 * 3, dtype=torch.uint8).view(7, 2, 3)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Seven rows in three files, next to an unused tensor."""
    paths = [tmp_path / f"part-{number}.safetensors" for number in range(3)]
    for path, part in zip(paths, PIXELS.split([3, 3, 1]), strict=True):
        path.write_bytes(dump_tensors({"labels": torch.arange(5), "pixels": part}))
    return paths


def test_rows_are_those_of_the_tensor(files: list[Path]) -> None:
    """Rows of any file come in the order asked for, also twice."""
    rows = ShardedRows(files, "pixels")
    numbers = torch.tensor([6, 0, 3, 3, 2, 5])

    assert ((7, 2, 3), 7) == (rows.shape, len(rows))
    assert torch.equal(PIXELS[numbers], rows[numbers])
    assert (0, 2, 3) == rows[torch.tensor([], dtype=torch.int64)].shape


def test_rows_travel_to_another_process(files: list[Path]) -> None:
    """An opened tensor is opened again there."""
    rows = ShardedRows(files, "pixels")
    rows[torch.tensor([0, 6])]

    assert torch.equal(PIXELS, pickle.loads(pickle.dumps(rows))[torch.arange(7)])


def test_a_file_that_ends_too_early_is_told(files: list[Path]) -> None:
    """A file that was cut after it was opened is no row of zeros."""
    rows = ShardedRows(files, "pixels")
    files[1].write_bytes(files[1].read_bytes()[:-4])

    with pytest.raises(OSError, match=r"part-1.safetensors ends too early"):
        rows[torch.tensor([5])]
