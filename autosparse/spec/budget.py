"""Budgets as written in specs: a sparsity, `99%`, `100x`, or a maximum of parameters, multiply-adds, bytes or latency.

A maximum is a number, or relative to the dense network: at most `30%` of it, or `4x` less. A latency is one of a batch
in a runtime, with a number of threads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

from autosparse.registry import suggestion
from autosparse.spec.diagnostics import refusal
from autosparse.text import plural, quoted

_MANY = {"k": 10**3, "M": 10**6, "G": 10**9}
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TIMES = {"s": 10**9, "ms": 10**6, "us": 10**3, "\u00b5s": 10**3, "\u03bcs": 10**3, "ns": 1}  # micro has two signs
_UNITS = {"parameters": _MANY, "macs": _MANY, "bytes": {**_MANY, **_BYTES}, "latency": _TIMES}
CURRENCIES = tuple(_UNITS)
CONDITIONS: dict[str, Any] = {"batch": 1, "threads": None, "runtime": "onnxruntime"}
"""Conditions of a latency, and their defaults; None for the threads of the target"""
_MOST_OF = {"batch": 4096, "threads": 1024}

_NUMBER = r"(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})"
_MOST = 2**53  # largest whole number that every JSON reader keeps exactly
_EXAMPLES = {"parameters": "120k", "macs": "5M", "bytes": "500kB", "latency": "5ms"}
_HINT = "0.99 removes 99 % of the weights"
_WAYS = (
    f"{_HINT}, as 99% and 100x do; or {{parameters: 120k}}, {{macs: 5M}}, {{bytes: 500kB}}, {{macs: 30%}}, "
    "{latency: 2x}"
)

_SHOWN = {
    "bytes": {unit: worth for unit, worth in _BYTES.items() if worth > 1},
    "latency": {unit: worth for unit, worth in _TIMES.items() if unit.isascii()},
}
"""Units that name their currency"""
_DECIMAL = {"GB", "MB", "kB", *_MANY, *_TIMES}

Conditions: TypeAlias = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Amount:
    """A maximum of `parameters`, `macs` or `bytes` for a pruned network, or of its `latency` in nanoseconds."""

    currency: str
    amount: int
    conditions: Conditions = ()
    """those of a latency that differ from the defaults"""

    def __str__(self) -> str:
        """Return the short, exact name in steps, columns and folders: `120k parameters`, `5M macs`, `500kB`, `5ms`."""
        units = _SHOWN.get(self.currency, _MANY)
        names = self.currency not in _SHOWN
        for unit, worth in sorted(units.items(), key=lambda item: (item[0] not in _DECIMAL, -item[1])):
            if self.amount >= worth and self.amount * 100 % worth == 0:
                number = f"{self.amount / worth:.2f}".rstrip("0").rstrip(".")
                return number + (f"{unit} {self.currency}" if names else unit + _under(self.conditions))
        return f"{self.amount} {self.currency}"

    def written(self) -> dict[str, Any]:
        """Return the amount as a spec holds it."""
        amount: Any = f"{self.amount}ns" if self.currency == "latency" else self.amount
        return {self.currency: amount, **dict(self.conditions)}

    def keyed(self) -> dict[str, Any]:
        """Return the amount as an option of steps."""
        return {self.currency: self.amount}


@dataclass(frozen=True)
class RelativeAmount:
    """A maximum relative to the dense network, as written: `30%` of it or `4x` less. Equal shares are equal budgets."""

    currency: str
    share: Fraction
    """share of the dense network's amount, above 0 and at most 1"""
    text: str = field(compare=False)
    conditions: Conditions = ()
    """those of a latency that differ from the defaults"""

    def __str__(self) -> str:
        """Return the name in steps and columns: `30% macs`, `4x bytes`, `2x latency, batch 32`."""
        return f"{self.text} {self.currency}{_under(self.conditions)}"

    def of(self, dense: int) -> Amount:
        """Return the largest whole amount within the share of the dense network's amount."""
        return Amount(self.currency, math.floor(self.share * dense))

    def written(self) -> dict[str, Any]:
        """Return the amount as a spec holds it."""
        return {self.currency: self.text, **dict(self.conditions)}

    def keyed(self) -> dict[str, Any]:
        """Return the share as an option of steps: the same for `50%` and `2x`."""
        return {self.currency: str(self.share)}


def _under(conditions: Conditions) -> str:
    named = dict(conditions)
    parts = [f"batch {named['batch']}"] if "batch" in named else []
    parts += [plural(named["threads"], "thread")] if "threads" in named else []
    return "".join(f", {part}" for part in parts)


BudgetValue: TypeAlias = float | Amount | RelativeAmount


def _budget(value: Any) -> BudgetValue:
    if isinstance(value, Amount | RelativeAmount):
        return value
    if isinstance(value, Mapping):
        return _amount(value)
    return _share(value.strip()) if isinstance(value, str) else _sparsity(value)


def _sparsity(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal(f"must be a number but is {quoted(value)}", _HINT)
    if 0 <= value < 1:
        return float(value) + 0.0  # no minus zero
    hint = f"for {value:g} % write {value / 100:g}" if 1 < value < 100 else _HINT
    raise refusal(f"must be at least 0 and below 1 but is {value:g}", hint)


def _share(text: str) -> float:
    """Return the sparsity that `99%` or `100x` means: the float nearest to the exact value, as 0.99 is."""
    match = re.fullmatch(rf"(-?)({_NUMBER})\s*([%xX])", text)
    if match is None:
        hint = _WAYS
        if named := re.fullmatch(r"(?P<c>\w+)\s*=\s*(?P<a>.+)|(?P<amount>.+?)\s+(?P<currency>\w+)", text):
            currency, amount = named["c"] or named["currency"], named["a"] or named["amount"]
            hint = f"in a spec write {{{currency}: {amount}}}" if currency in CURRENCIES else _WAYS
        if re.fullmatch(rf"{_NUMBER}\s*(?:[kMG]|[kKMG]i?B)", text):
            which = ["bytes"] if text.endswith("B") else [name for name in CURRENCIES if name != "latency"]
            hint = f"of what? {' or '.join(f'{{{currency}: {text}}}' for currency in which)}"
        if (time := re.fullmatch(rf"{_NUMBER}\s*(\S+)", text)) and time[1] in _TIMES:
            hint = f"did you mean {{latency: {text}}}?"
        raise refusal(f"must be a number but is {quoted(text)}", hint)
    number = Fraction(match[2]) * (-1 if match[1] else 1)
    if match[3] == "%":
        if not 0 <= number < 100:
            raise refusal(f"must be at least 0% and below 100% but is {text}", "99% removes 99 % of the weights")
        return _below_one(number / 100, text)
    if number < 1:
        raise refusal(f"must be at least 1x but is {text}", "100x keeps one weight of 100; 1x keeps all")
    return _below_one(1 - 1 / number, text)


def _below_one(share: Fraction, text: str) -> float:
    if (sparsity := float(share)) < 1:
        return sparsity
    raise refusal(f"must leave some weights but is {text}", _HINT)


def _amount(value: Mapping[Any, Any]) -> Amount | RelativeAmount:
    for key in value:
        if key not in CURRENCIES and key not in CONDITIONS:
            alone = f"a sparsity stands alone: {value[key]}" if key == "sparsity" else ""
            known = [*CURRENCIES, *(CONDITIONS if "latency" in value else ())]
            hint = alone or suggestion(str(key), known) or f"currencies: {', '.join(CURRENCIES)}"
            raise refusal(f"must be in parameters, macs, bytes or latency but is in {quoted(key)}", hint)
    amounts = {key: value[key] for key in value if key in CURRENCIES}
    if len(amounts) != 1:
        named = " and ".join(map(str, amounts)) if amounts else "none"
        hint = "several budgets are a list: [{parameters: 120k}, {macs: 5M}]"
        raise refusal(f"must name one currency but names {named}", hint)
    ((currency, amount),) = amounts.items()
    asked = {name: _condition(name, value[name], currency) for name in CONDITIONS if name in value}
    conditions = tuple((name, one) for name, one in asked.items() if one != CONDITIONS[name])
    return _relative(currency, amount, conditions) or Amount(currency, _whole(currency, amount), conditions)


def _condition(name: str, value: Any, currency: str) -> Any:
    if currency != "latency":
        raise refusal(f"is a condition of a latency, but the budget is in {currency}", f"remove `{name}`", (name,))
    if value == CONDITIONS[name] and not isinstance(value, bool):
        return value
    if name == "runtime":
        raise refusal(f"must be onnxruntime but is {quoted(value)}", "no other runtime is measured", (name,))
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_OF[name]:
        message = f"must be a whole number from 1 to {_MOST_OF[name]} but is {quoted(value)}"
        raise refusal(message, f"such as `{name}: 2`", (name,))
    return value


def _relative(currency: str, value: Any, conditions: Conditions) -> RelativeAmount | None:
    match = re.fullmatch(rf"(-?)({_NUMBER})\s*([%xX])", value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    number, unit = Fraction(match[2]) * (-1 if match[1] else 1), match[3].lower()
    if unit == "%" and not 0 < number <= 100:
        hint = f"30% keeps at most 30 % of the dense network's {currency}"
        raise refusal(f"must be above 0% and at most 100% but is {value.strip()}", hint, (currency,))
    if unit == "x" and number < 1:
        hint = f"4x keeps at most a quarter of the dense network's {currency}"
        raise refusal(f"must be at least 1x but is {value.strip()}", hint, (currency,))
    whole, _, digits = match[2].partition(".")
    text = ".".join(filter(None, (whole.lstrip("0") or "0", digits.rstrip("0"))))
    return RelativeAmount(currency, number / 100 if unit == "%" else 1 / number, text + unit, conditions)


def _whole(currency: str, value: Any) -> int:
    number: Fraction | None = None
    hint = f"such as {_EXAMPLES[currency]}"
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        if currency == "latency":
            raise refusal(f"must be a time with its unit, or 2x or 50%, but is {value:g}", _of_time(value), (currency,))
        number = Fraction(value)
    elif isinstance(value, str) and (match := re.fullmatch(rf"({_NUMBER})\s*([A-Za-z\u00b5\u03bc]*)", value.strip())):
        number, hint = _in_units(currency, match[1], match[2])
    elif isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}([,_ ][0-9]{3})+", value.strip()):
        hint = f"write {re.sub(r'[,_ ]', '', value.strip())}"
    if number is None or number.denominator != 1 or not 0 < number < _MOST:
        if number is not None and number.denominator != 1:
            percent = f"{float(number) * 100:.6g}"
            share = f"for {percent} % of the dense network write {percent}%"
            hint = share if 1e-6 < number < 1 else f"{float(number):g} is not whole"
        message = "must be a whole number above 0, with or without a unit, or a share such as 30% or 4x"
        if currency == "latency":
            message = "must be a time of whole nanoseconds above 0 with its unit, or 2x or 50%,"
        raise refusal(f"{message} but is {quoted(value)}", hint, (currency,))
    return int(number)


def _of_time(value: float) -> str:
    return f"did you mean `{value:g}ms` or `{value:g}x`?" if value >= 1 else "such as 5ms, or 2x for half of the time"


def _in_units(currency: str, number: str, unit: str) -> tuple[Fraction | None, str]:
    # `500k` is clear for bytes too; `KB` is not: some take it for 1000, some for 1024.
    units = {**({"": 1} if currency != "latency" else {}), **_UNITS[currency]}
    if unit in units:
        return Fraction(number) * units[unit], f"such as {_EXAMPLES[currency]}"
    if unit.lower() == "kb" and currency == "bytes":
        return None, f"{number}kB is {number} x 1000 bytes, {number}KiB {number} x 1024"
    if not unit:
        return None, _of_time(float(number))
    if unit in _BYTES:
        return None, f"did you mean {{bytes: {number}{unit}}}?"
    near = next((known for known in units if known.lower() == unit.lower()), None)
    return None, f"did you mean `{number}{near}`?" if near else f"units: {', '.join(u for u in units if u)}, %, x"


_TEXT = rf"^\s*{_NUMBER}\s*"
_CONDITIONS_SCHEMA: dict[str, Any] = {
    "batch": {"type": "integer", "minimum": 1, "maximum": _MOST_OF["batch"], "description": "images of a call"},
    "threads": {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": _MOST_OF["threads"],
        "description": "threads of the runtime; default: `target.threads`",
    },
    "runtime": {"const": "onnxruntime"},
}
_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        {"type": "string", "pattern": rf"{_TEXT}[%xX]\s*$", "description": "99% or 100x: as 0.99"},
        *(
            {
                "type": "object",
                "properties": {
                    currency: {
                        "anyOf": [
                            *([{"type": "number", "minimum": 1}] if currency != "latency" else []),
                            {
                                "type": "string",
                                "pattern": rf"{_TEXT}(?:{'|'.join(units)}|[%xX]){'?' * (currency != 'latency')}\s*$",
                            },
                        ]
                    },
                    **(_CONDITIONS_SCHEMA if currency == "latency" else {}),
                },
                "required": [currency],
                "additionalProperties": False,
                "description": (
                    f"the most {currency}, such as {_EXAMPLES[currency]}; or 30% or 4x, relative to the dense network"
                ),
            }
            for currency, units in _UNITS.items()
        ),
    ]
}

Sparsity: TypeAlias = Annotated[float, BeforeValidator(_sparsity)]
Budget: TypeAlias = Annotated[
    BudgetValue,
    PlainValidator(_budget),
    PlainSerializer(lambda value: value if isinstance(value, float) else value.written()),
    WithJsonSchema(_SCHEMA),
]
