"""Rows of a CSV, XLSX or NDJSON file, one after the other, in memory that does not grow with them."""

import codecs
import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from jiter import from_json
from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from crm_api.kernel.problems import LIMIT_REACHED, Fault, Problem, invalid

MOST_ROWS = 1_000_000
MOST_COLUMNS = 500
LONGEST_LINE = 1_000_000
SAMPLE = 5
_LOOK = 65_536
"""Characters by which a delimiter is found."""
_DELIMITERS = (",", ";", "\t", "|")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_MOST_PARTS = 10_000
_LARGEST_SHEET = 4 * 2**30
_LARGEST_TEXTS = 64 * 2**20
"""Bytes of the texts that cells share: they are held in memory."""
_NO_BOOK = (
    *(zipfile.BadZipFile, ParseError, DefusedXmlException, InvalidFileException),
    *(KeyError, ValueError, TypeError, AttributeError, IndexError, OSError, EOFError),
)
"""What the library raises for files that are no books, or damaged ones."""

Row = tuple[int, dict[str, Any] | Fault]
"""The number of a row, as a person counts who sees the file, and its cells by column; or what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file and how it is read; `delimiter` and `encoding` for CSV, `sheet` for XLSX."""

    path: Path
    format: str
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None

    def found(self) -> "Source":
        """The same with what can be found out by looking: a mark, whether the bytes are UTF-8, what divides cells."""
        if self.format != "csv":
            return self
        encoding = self.encoding or _encoding(self.path)
        with _decoded(), self.path.open(encoding=_reader(encoding), newline="") as file:
            head = file.read(_LOOK)
        return replace(self, encoding=encoding, delimiter=self.delimiter or _delimiter(head))

    def rows(self) -> Iterator[Row]:
        """The rows below the header, which are not empty.

        Raises:
            Problem: 422 for a file that is not what it should be, or has too many rows or columns.
        """
        rows = {"csv": self._csv, "xlsx": self._xlsx, "ndjson": self._ndjson}[self.format]()
        for number, (place, cells) in enumerate(rows):
            if number >= MOST_ROWS:
                raise Problem(LIMIT_REACHED, f"A file has at most {MOST_ROWS} rows.")
            yield place, cells

    def columns(self) -> list[str]:
        """The names of its columns; those of the first lines for NDJSON."""
        if self.format == "ndjson":
            found: dict[str, None] = {}
            for _, cells in islice(self.rows(), 100):
                found.update(dict.fromkeys(cells if isinstance(cells, dict) else ()))
            return _bounded([*found])
        lines = self._lines() if self.format == "csv" else self._cells()
        return _named(next(lines, []))

    def _csv(self) -> Iterator[Row]:
        yield from _under_header(self._lines())

    def _lines(self) -> Iterator[Sequence[Any]]:
        with _decoded(), self.path.open(encoding=_reader(self.encoding or "utf-8"), newline="") as file:
            yield from csv.reader(file, delimiter=self.delimiter or ",", strict=True)

    def _xlsx(self) -> Iterator[Row]:
        yield from _under_header(self._cells())

    def _cells(self) -> Iterator[Sequence[Any]]:
        try:
            _check_parts(self.path)
            with self.path.open("rb") as file:
                book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
                if self.sheet is not None and self.sheet not in book.sheetnames:
                    raise invalid("/sheet", "unknown_sheet", f"The file has no sheet {self.sheet!r}.")
                sheet = book[self.sheet or book.sheetnames[0]]
                sheet.reset_dimensions()
                for cells in sheet.iter_rows(values_only=True, max_col=MOST_COLUMNS + 1):
                    yield [_text(cell) for cell in cells]
        except _NO_BOOK as error:
            raise _unreadable("This is no XLSX file, or it is damaged.") from error

    def _ndjson(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            for number in range(1, MOST_ROWS * 2):
                line = file.readline(LONGEST_LINE + 1)
                if not line:
                    return
                if len(line) > LONGEST_LINE:
                    raise _unreadable(f"Line {number} is longer than {LONGEST_LINE} bytes.")
                if not line.strip():
                    continue
                try:
                    found = from_json(line, catch_duplicate_keys=True)
                except ValueError:
                    found = None
                if isinstance(found, dict):
                    yield number, found
                else:
                    detail = "This line is not a JSON object, or has a name twice."
                    yield number, Fault("invalid_json", detail, pointer="")


def _encoding(path: Path) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        head = file.read(4)
        if (marked := next((name for mark, name in _MARKS if head.startswith(mark)), None)) is not None:
            return marked
        file.seek(0)
        try:
            while part := file.read(1 << 20):
                decoder.decode(part)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "windows-1252"
    return "utf-8"


def _reader(encoding: str) -> str:
    return "utf-8-sig" if encoding == "utf-8" else encoding


def _delimiter(head: str) -> str:
    """The one that divides most lines into the same number of cells, the more the better."""
    best, chosen = (0.0, 0), ","
    for delimiter in _DELIMITERS:
        try:
            lines = [line for line in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if line][:100]
        except csv.Error:
            continue
        lines = lines[:-1] or lines  # the last may be cut
        width = len(lines[0]) if lines else 0
        same = sum(len(line) == width for line in lines) / len(lines) if width > 1 else 0.0
        if (same, width) > best:
            best, chosen = (same, width), delimiter
    return chosen


@contextmanager
def _decoded() -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        raise _unreadable("The file has bytes that its encoding does not know; say which it is.") from error
    except csv.Error as error:
        raise _unreadable(f"The file is not CSV as it should be: {error}.") from error


def _unreadable(detail: str) -> Problem:
    return invalid("", "unreadable_file", detail)


def _under_header(lines: Iterator[Sequence[Any]]) -> Iterator[Row]:
    columns = _named(next(lines, []))
    for number, cells in enumerate(lines, 2):
        if not any(cells):
            continue
        if len(cells) > len(columns) and any(cells[len(columns) :]):
            yield (
                number,
                Fault("too_many_cells", f"The row has more cells than the {len(columns)} columns.", pointer=""),
            )
        else:
            yield number, dict(zip(columns, cells, strict=False))


def _named(cells: Sequence[Any]) -> list[str]:
    """Names of columns: none is empty, and none twice."""
    names = [str(cell or "").strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    found: list[str] = []
    for position, name in enumerate(names, 1):
        base = name[:480] or f"column {position}"
        again = sum(other == base or other.startswith(f"{base} (") for other in found)
        found.append(f"{base} ({again + 1})" if again else base)
    if not found:
        raise _unreadable("The first row names no column.")
    return _bounded(found)


def _bounded(columns: list[str]) -> list[str]:
    if len(columns) > MOST_COLUMNS:
        raise Problem(LIMIT_REACHED, f"A file has at most {MOST_COLUMNS} columns.")
    return columns


def _check_parts(path: Path) -> None:
    """Refuses what would take too much memory or time when it is unpacked."""
    with zipfile.ZipFile(path) as parts:
        known = parts.infolist()
    texts = sum(part.file_size for part in known if not part.filename.startswith("xl/worksheets/"))
    if len(known) > _MOST_PARTS or texts > _LARGEST_TEXTS or sum(part.file_size for part in known) > _LARGEST_SHEET:
        raise Problem(LIMIT_REACHED, "The file is too large when it is unpacked; send it as CSV.")


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 10**15 else repr(cell)
    if isinstance(cell, datetime):
        return cell.date().isoformat() if (cell.hour, cell.minute, cell.second) == (0, 0, 0) else cell.isoformat()
    return cell.isoformat() if isinstance(cell, date) else str(cell)
