"""Budgets as written in specs: a sparsity, `99%`, `100x`, or a maximum of parameters, multiply-adds or bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, WithJsonSchema

from autosparse.registry import suggestion
from autosparse.spec.diagnostics import refusal
from autosparse.text import quoted

CURRENCIES = ("parameters", "macs", "bytes")

_MANY = {"k": 10**3, "M": 10**6, "G": 10**9}
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NUMBER = r"(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})"
_MOST = 2**53  # largest whole number that every JSON reader keeps exactly
_EXAMPLES = {"parameters": "120k", "macs": "5M", "bytes": "500kB"}
_HINT = "0.99 removes 99 % of the weights"
_WAYS = f"{_HINT}, as 99% and 100x do; or {{parameters: 120k}}, {{macs: 5M}}, {{bytes: 500kB}}"


@dataclass(frozen=True)
class Amount:
    """A maximum of `parameters`, `macs` or `bytes` for a pruned network."""

    currency: str
    amount: int

    def __str__(self) -> str:
        """Return the short, exact name in steps, columns and folders: `120k parameters`, `5M macs`, `500kB`."""
        in_bytes = self.currency == "bytes"
        for unit in ("GB", "MB", "kB", "GiB", "MiB", "KiB") if in_bytes else ("G", "M", "k"):
            worth = _BYTES[unit] if in_bytes else _MANY[unit]
            if self.amount >= worth and self.amount * 100 % worth == 0:
                number = f"{self.amount / worth:.2f}".rstrip("0").rstrip(".")
                return number + (unit if in_bytes else f"{unit} {self.currency}")
        return f"{self.amount} {self.currency}"

    def written(self) -> dict[str, int]:
        """Return the amount as a spec holds it."""
        return {self.currency: self.amount}


def _budget(value: Any) -> float | Amount:
    if isinstance(value, Amount):
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
        currency, equals, amount = (part.strip() for part in text.partition("="))
        hint = f"in a spec write {{{currency}: {amount}}}" if equals and currency in CURRENCIES else _WAYS
        if re.fullmatch(rf"{_NUMBER}\s*(?:[kMG]|[kKMG]i?B)", text):
            which = ["bytes"] if text.endswith("B") else CURRENCIES
            hint = f"of what? {' or '.join(f'{{{currency}: {text}}}' for currency in which)}"
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


def _amount(value: Mapping[Any, Any]) -> Amount:
    for key in value:
        if key not in CURRENCIES:
            hint = suggestion(str(key), CURRENCIES) or f"currencies: {', '.join(CURRENCIES)}"
            raise refusal(f"must be in parameters, macs or bytes but is in {quoted(key)}", hint)
    if len(value) != 1:
        named = " and ".join(map(str, value)) if value else "none"
        hint = "several budgets are a list: [{parameters: 120k}, {macs: 5M}]"
        raise refusal(f"must name one currency but names {named}", hint)
    ((currency, amount),) = value.items()
    return Amount(currency, _whole(currency, amount))


def _whole(currency: str, value: Any) -> int:
    number: Fraction | None = None
    hint = f"such as {_EXAMPLES[currency]}"
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        number = Fraction(value)
    elif isinstance(value, str) and (match := re.fullmatch(rf"({_NUMBER})\s*([A-Za-z]*)", value.strip())):
        number, hint = _in_units(currency, match[1], match[2])
    elif isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}([,_ ][0-9]{3})+", value.strip()):
        hint = f"write {re.sub(r'[,_ ]', '', value.strip())}"
    if number is None or number.denominator != 1 or not 0 < number < _MOST:
        if number is not None and number.denominator != 1:
            hint = f"{float(number):g} is not whole"
        raise refusal(
            f"must be a whole number above 0, with or without a unit, but is {quoted(value)}", hint, (currency,)
        )
    return int(number)


def _in_units(currency: str, number: str, unit: str) -> tuple[Fraction | None, str]:
    # `500k` is clear for bytes too; `KB` is not: some take it for 1000, some for 1024.
    units = {"": 1, **_MANY, **(_BYTES if currency == "bytes" else {})}
    if unit in units:
        return Fraction(number) * units[unit], f"such as {_EXAMPLES[currency]}"
    if unit.lower() == "kb" and currency == "bytes":
        return None, f"{number}kB is {number} x 1000 bytes, {number}KiB {number} x 1024"
    if unit in _BYTES:
        return None, f"did you mean {{bytes: {number}{unit}}}?"
    near = next((known for known in units if known.lower() == unit.lower()), None)
    return None, f"did you mean `{number}{near}`?" if near else f"units: {', '.join(u for u in units if u)}"


_TEXT = rf"^\s*{_NUMBER}\s*"
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
                            {"type": "number", "exclusiveMinimum": 0},
                            {"type": "string", "pattern": rf"{_TEXT}(?:{'|'.join(units)})?\s*$"},
                        ]
                    }
                },
                "required": [currency],
                "additionalProperties": False,
                "description": f"the most {currency}, such as {_EXAMPLES[currency]}",
            }
            for currency, units in (("parameters", _MANY), ("macs", _MANY), ("bytes", {**_MANY, **_BYTES}))
        ),
    ]
}

Sparsity: TypeAlias = Annotated[float, BeforeValidator(_sparsity)]
Budget: TypeAlias = Annotated[
    float | Amount,
    PlainValidator(_budget),
    PlainSerializer(lambda value: value.written() if isinstance(value, Amount) else value),
    WithJsonSchema(_SCHEMA),
]
