"""Loops over the remaining weights, compiled by numba: convolution, BatchNorm and max pooling, and their gradients.

Images are innermost: `[images, channels, height, width]` is an array `[channels, height, width * images]`. One weight
multiplies a row by a scalar, as in SparseProp (Nikdan et al., arXiv 2302.04852). Calls for other `begin` and `end`
write disjoint, independent parts: results are identical at any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy

Loop = TypeVar("Loop", bound=Callable[..., Any])

# A sum along a row may be split into several sums at once; additions to a row keep the order of the weights.
_rows = cast(Callable[[Loop], Loop], numba.njit(nogil=True, cache=True, fastmath={"contract"}))
_sums = cast(Callable[[Loop], Loop], numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"}))
_ZERO: Any = numpy.float32(0)


@_rows
def _add(row: Any, weight: Any, other: Any) -> None:
    for i in range(len(row)):
        row[i] += weight * other[i]


@_rows
def _add_four(row: Any, v: Any, k: int, a: Any, b: Any, c: Any, d: Any) -> None:
    p, q, r, s = v[k], v[k + 1], v[k + 2], v[k + 3]
    for i in range(len(row)):
        row[i] += (p * a[i] + q * b[i]) + (r * c[i] + s * d[i])


@_sums
def _dot(row: Any, other: Any) -> Any:
    total = _ZERO
    for i in range(len(row)):
        total += row[i] * other[i]
    return total


@_sums
def _dot_four(row: Any, a: Any, b: Any, c: Any, d: Any, totals: Any, k: int) -> None:
    p, q, r, s = _ZERO, _ZERO, _ZERO, _ZERO
    for i in range(len(row)):
        p += row[i] * a[i]
        q += row[i] * b[i]
        r += row[i] * c[i]
        s += row[i] * d[i]
    totals[k] += p
    totals[k + 1] += q
    totals[k + 2] += r
    totals[k + 3] += s


@_rows
def _least(values: Any, k: int) -> Any:
    return min(min(values[k], values[k + 1]), min(values[k + 2], values[k + 3]))


@_rows
def _most(values: Any, k: int) -> Any:
    return max(max(values[k], values[k + 1]), max(values[k + 2], values[k + 3]))


@_rows
def convolve(
    begin: int, end: int, x: Any, first: Any, reads: Any, down: Any, right: Any, weights: Any, y: Any,
    images: int, stride: int, spacing: int,
) -> None:  # fmt: skip
    """Compute rows `begin` to `end` of every output channel.

    Weights are sorted by output channel, each of which starts at `first`. `reads` is the input channel of a weight,
    `down` and `right` its offset from the output's position times the stride. With a `spacing` inputs lie that far
    apart, with zeros between, as in the gradient of a convolution of that stride; stride or spacing is 1.
    """
    n, height, width, wide = images, x.shape[1], x.shape[2] // images, y.shape[2] // images
    for h in range(begin, end):
        for o in range(y.shape[0]):
            row = y[o, h]
            row[:] = _ZERO
            k, last = first[o], first[o + 1]
            while k < last:
                four = stride == spacing == 1 and k + 3 < last
                four = four and h + _least(down, k) >= 0 and h + _most(down, k) < height
                low, high = 0, 0  # the columns that four weights reach at once
                if four:
                    low, high = max(0, -_least(right, k)), min(wide, width - _most(right, k))
                if low < high:
                    _add_four(
                        row[low * n : high * n], weights, k,
                        x[reads[k], h + down[k], (low + right[k]) * n : (high + right[k]) * n],
                        x[reads[k + 1], h + down[k + 1], (low + right[k + 1]) * n : (high + right[k + 1]) * n],
                        x[reads[k + 2], h + down[k + 2], (low + right[k + 2]) * n : (high + right[k + 2]) * n],
                        x[reads[k + 3], h + down[k + 3], (low + right[k + 3]) * n : (high + right[k + 3]) * n],
                    )  # fmt: skip
                for j in range(k, k + 4 if four else k + 1):
                    shift, top = right[j], h * stride + down[j]
                    if top < 0 or top % spacing or top // spacing >= height:
                        continue
                    other = x[reads[j], top // spacing]
                    if spacing > 1:
                        a, b = max(0, (spacing - 1 + shift) // spacing), min(width, (wide - 1 + shift) // spacing + 1)
                        for w in range(a, b):
                            at = (w * spacing - shift) * n
                            _add(row[at : at + n], weights[j], other[w * n : (w + 1) * n])
                        continue
                    a, b = max(0, (stride - 1 - shift) // stride), min(wide, (width - 1 - shift) // stride + 1)
                    if stride > 1:
                        for w in range(a, b):
                            at = (w * stride + shift) * n
                            _add(row[w * n : (w + 1) * n], weights[j], other[at : at + n])
                    elif low < high:
                        if a < low:
                            _add(row[a * n : low * n], weights[j], other[(a + shift) * n : (low + shift) * n])
                        if high < b:
                            _add(row[high * n : b * n], weights[j], other[(high + shift) * n : (b + shift) * n])
                    elif a < b:
                        _add(row[a * n : b * n], weights[j], other[(a + shift) * n : (b + shift) * n])
                k += 4 if four else 1


@_sums
def gradient_of_weights(
    begin: int, end: int, x: Any, g: Any, first: Any, reads: Any, down: Any, right: Any, gradient: Any,
    images: int, stride: int,
) -> None:  # fmt: skip
    """Compute the gradient of the weights of output channels `begin` to `end`, sorted as for `convolve`."""
    n, height, width, wide = images, x.shape[1], x.shape[2] // images, g.shape[2] // images
    for k in range(first[begin], first[end]):
        gradient[k] = _ZERO
    for h in range(g.shape[1]):
        top = h * stride
        for o in range(begin, end):
            row = g[o, h]
            k, last = first[o], first[o + 1]
            while k < last:
                four = stride == 1 and k + 3 < last and top + _least(down, k) >= 0 and top + _most(down, k) < height
                low, high = 0, 0
                if four:
                    low, high = max(0, -_least(right, k)), min(wide, width - _most(right, k))
                if low < high:
                    _dot_four(
                        row[low * n : high * n],
                        x[reads[k], top + down[k], (low + right[k]) * n : (high + right[k]) * n],
                        x[reads[k + 1], top + down[k + 1], (low + right[k + 1]) * n : (high + right[k + 1]) * n],
                        x[reads[k + 2], top + down[k + 2], (low + right[k + 2]) * n : (high + right[k + 2]) * n],
                        x[reads[k + 3], top + down[k + 3], (low + right[k + 3]) * n : (high + right[k + 3]) * n],
                        gradient, k,
                    )  # fmt: skip
                for j in range(k, k + 4 if four else k + 1):
                    if not 0 <= top + down[j] < height:
                        continue
                    shift, other, total = right[j], x[reads[j], top + down[j]], _ZERO
                    a, b = max(0, (stride - 1 - shift) // stride), min(wide, (width - 1 - shift) // stride + 1)
                    if stride > 1:
                        for w in range(a, b):
                            at = (w * stride + shift) * n
                            total += _dot(row[w * n : (w + 1) * n], other[at : at + n])
                    elif low < high:
                        if a < low:
                            total += _dot(row[a * n : low * n], other[(a + shift) * n : (low + shift) * n])
                        if high < b:
                            total += _dot(row[high * n : b * n], other[(high + shift) * n : (b + shift) * n])
                    elif a < b:
                        total = _dot(row[a * n : b * n], other[(a + shift) * n : (b + shift) * n])
                    gradient[j] += total
                k += 4 if four else 1


@_sums
def normalize(
    begin: int, end: int, x: Any, scale: Any, shift: Any, epsilon: float, mean: Any, variance: Any, y: Any
) -> None:
    """Normalize channels `begin` to `end` to mean 0 and variance 1, scale and shift them; store both moments."""
    for c in range(begin, end):
        origin = x[c, 0, 0]  # one of the values, so that squares are no larger than the spread
        total, squares = 0.0, 0.0
        for h in range(x.shape[1]):
            row, part, square = x[c, h], _ZERO, _ZERO
            for i in range(len(row)):
                off = row[i] - origin
                part += off
                square += off * off
            total += part
            squares += square
        count = x.shape[1] * x.shape[2]
        total /= count
        mean[c] = origin + total
        variance[c] = max(squares / count - total * total, 0.0)
        slope = scale[c] / numpy.sqrt(variance[c] + epsilon)
        times, plus = numpy.float32(slope), numpy.float32(shift[c] - (origin + total) * slope)
        for h in range(x.shape[1]):
            row, out = x[c, h], y[c, h]
            for i in range(len(row)):
                out[i] = times * row[i] + plus


@_sums
def gradient_of_normalize(
    begin: int, end: int, x: Any, g: Any, scale: Any, epsilon: float, mean: Any, variance: Any,
    of_scale: Any, of_shift: Any, of_x: Any,
) -> None:  # fmt: skip
    """Compute the gradients of channels `begin` to `end`: of the input, of the scale and of the shift."""
    for c in range(begin, end):
        middle, total, product = mean[c], 0.0, 0.0
        for h in range(x.shape[1]):
            row, other, part, times = x[c, h], g[c, h], _ZERO, _ZERO
            for i in range(len(row)):
                part += other[i]
                times += other[i] * (row[i] - middle)
            total += part
            product += times
        count = x.shape[1] * x.shape[2]
        inverse = 1.0 / numpy.sqrt(variance[c] + epsilon)
        of_shift[c], of_scale[c] = total, product * inverse
        slope = scale[c] * inverse
        bend = -slope * inverse * inverse * product / count
        factor, along = numpy.float32(slope), numpy.float32(bend)
        plus = numpy.float32(-slope * total / count - bend * middle)
        for h in range(x.shape[1]):
            row, other, out = x[c, h], g[c, h], of_x[c, h]
            for i in range(len(row)):
                out[i] = factor * other[i] + (along * row[i] + plus)


@_rows
def pool(begin: int, end: int, x: Any, y: Any, images: int, side: int) -> None:
    """Take the maximum of every square of `side` times `side` in channels `begin` to `end`."""
    wide = y.shape[2] // images
    for c in range(begin, end):
        for h in range(y.shape[1]):
            for w in range(wide):
                row = y[c, h, w * images : (w + 1) * images]
                row[:] = x[c, h * side, w * side * images : (w * side + 1) * images]
                for tap in range(1, side * side):
                    at = (w * side + tap % side) * images
                    other = x[c, h * side + tap // side, at : at + images]
                    for i in range(len(row)):
                        row[i] = other[i] if other[i] > row[i] else row[i]


@_rows
def gradient_of_pool(begin: int, end: int, x: Any, y: Any, g: Any, of_x: Any, images: int, side: int) -> None:
    """Pass the gradient of a square to its first maximum, as torch does, in channels `begin` to `end`."""
    wide = y.shape[2] // images
    left = numpy.empty(images, numpy.float32)
    for c in range(begin, end):
        of_x[c] = _ZERO
        for h in range(y.shape[1]):
            for w in range(wide):
                row = y[c, h, w * images : (w + 1) * images]
                left[:] = g[c, h, w * images : (w + 1) * images]
                for tap in range(side * side):
                    at = (w * side + tap % side) * images
                    other = x[c, h * side + tap // side, at : at + images]
                    out = of_x[c, h * side + tap // side, at : at + images]
                    for i in range(len(row)):
                        here = other[i] == row[i]
                        out[i] = left[i] if here else _ZERO
                        left[i] = _ZERO if here else left[i]
