"""Results as records: mappings in a sequence, which become a table of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from autosparse.borders import optional
from autosparse.text import visible

if TYPE_CHECKING:
    import pandas


class Records(tuple[Mapping[str, Any], ...]):
    """Sequence of records with the same fields, shown as a table in a notebook.

    Examples:
        >>> records = Records([{"method": "snip", "test_accuracy": 91.5}])
        >>> records[0]["method"], len(records)
        ('snip', 1)
    """

    __slots__ = ()

    def __new__(cls, records: Iterable[Mapping[str, Any]] = ()) -> Records:
        return super().__new__(cls, records)

    def to_pandas(self) -> pandas.DataFrame:
        """Return the records as a table of pandas, one column for each field.

        Returns:
            Table with a row for each record, in order.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        with optional("pandas", purpose="`to_pandas`", install="pandas"):
            import pandas
        return pandas.DataFrame.from_records([*self])

    def _repr_html_(self) -> str:
        titles = [*self[0]] if self else []
        head = "".join(f"<th>{_cell(title)}</th>" for title in titles)
        cells = ("".join(f"<td>{_cell(record[title])}</td>" for title in titles) for record in self)
        rows = "".join(f"<tr>{row}</tr>" for row in cells)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: object) -> str:
    return escape(visible(f"{value:.6g}" if isinstance(value, float) else "" if value is None else str(value)))
