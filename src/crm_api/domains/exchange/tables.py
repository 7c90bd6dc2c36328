"""Rows as CSV, XLSX or NDJSON, written to a file as they come, in memory that does not grow with them."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson
from xlsxwriter import Workbook

from crm_api.kernel.problems import LIMIT_REACHED, Problem
from crm_api.kernel.projection import dumps
from crm_api.kernel.schema import instant_text

MOST_SHEET_ROWS = 1_048_575
LONGEST_CELL = 32_767
_UNSEEN = r"\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2060\ufeff"
"""Characters that a program may skip, or not show, before it looks at a text."""
_FORMULA = re.compile(rf"^(?:[\t\r\n]|[{_UNSEEN}]*[=+\-@\uff1d\uff0b\uff0d\uff20])")
_NUMBER = re.compile(r"^-?[0-9]+(\.[0-9]+)?\Z")


class Table(Protocol):
    """What takes rows. Each method may take a while, so they run in a thread."""

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes wire objects."""

    def close(self) -> None:
        """Ends the file."""


def cell(value: Any) -> str:
    """The text of a field in a cell: nothing for null, JSON for lists and objects, no text that is taken for a formula.

    A text that a spreadsheet would work out begins with an apostrophe here; a plain negative number is none.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, dict, orjson.Fragment)):
        value = dumps(value).decode()
    text = str(value)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.match(text) else text


class CsvTable:
    """RFC 4180 in UTF-8, with a header."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._names = names
        self._writer = csv.writer(self._file)
        self._writer.writerow(names)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes wire objects."""
        self._writer.writerows([cell(row[name]) for name in self._names] for row in rows)

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


class JsonTable:
    """One object in each line, as a search sends it."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = path.open("wb")
        self._names = names

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes wire objects."""
        self._file.writelines(dumps({name: row[name] for name in self._names}) + b"\n" for row in rows)

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


class SheetTable:
    """One sheet of text cells, with a header. Whole numbers are numbers; amounts are text, so that they stay exact."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        options = {
            "constant_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
            "tmpdir": str(path.parent),
        }
        self._book = Workbook(str(path), options)
        self._sheet = self._book.add_worksheet("Export")
        self._names = names
        self._row = 0
        for column, name in enumerate(names):
            self._sheet.write_string(0, column, name)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes wire objects.

        Raises:
            Problem: 409 for more rows, or a longer text, than a sheet holds.
        """
        for row in rows:
            self._row += 1
            if self._row > MOST_SHEET_ROWS:
                raise Problem(LIMIT_REACHED, f"A sheet has at most {MOST_SHEET_ROWS} rows; take csv or ndjson.")
            for column, name in enumerate(self._names):
                value = row[name]
                if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**15:
                    self._sheet.write_number(self._row, column, value)
                elif text := cell(value):
                    if len(text) > LONGEST_CELL:
                        raise Problem(
                            LIMIT_REACHED, f"A cell has at most {LONGEST_CELL} characters; take csv or ndjson."
                        )
                    self._sheet.write_string(self._row, column, text)

    def close(self) -> None:
        """Ends the file."""
        self._book.close()


TABLES: dict[str, tuple[Callable[[Path, Sequence[str]], Table], str]] = {
    "csv": (CsvTable, "text/csv"),
    "ndjson": (JsonTable, "application/x-ndjson"),
    "xlsx": (SheetTable, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
}
