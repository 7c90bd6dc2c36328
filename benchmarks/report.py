"""Tables of the figures, and whether the bars are met."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import Result

RESULTS = Path(__file__).with_name("results")
TAIL = 5
"""p99 stays below this many times p50."""


def table(results: list[Result]) -> list[str]:
    """The figures side by side."""
    heads = [
        *("operation", "ours req/s", "p50 ms", "p99 ms", "CPU ms server + PostgreSQL", "naive req/s", "p50", "p99"),
        *("CPU ms", "floor req/s", "CPU ms", "ours/naive", "ours/floor", "errors"),
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    for result in results:
        ours, naive, floor = (result.figures.get(name) for name in ("ours", "naive", "floor"))
        assert ours is not None  # noqa: S101 - ours is always measured
        cells = [
            result.operation.title,
            f"{ours.rate:,.0f}",
            f"{ours.p50:.2f}",
            f"{ours.p99:.2f}",
            f"{ours.server_cpu:.2f} + {ours.database_cpu:.2f} = **{ours.cpu:.2f}**",
        ]
        cells += (
            [f"{naive.rate:,.0f}", f"{naive.p50:.2f}", f"{naive.p99:.2f}", f"{naive.cpu:.2f}"] if naive else [""] * 4
        )
        cells += [f"{floor.rate:,.0f}", f"{floor.cpu:.2f}"] if floor else [""] * 2
        cells.append(f"**{ours.rate / naive.rate:.2f}**" if naive else "")
        cells.append(f"{ours.rate / floor.rate:.2f}" if floor else "")
        cells.append(str(sum(figures.errors for figures in result.figures.values())))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def by_hand(results: list[Result]) -> list[str]:
    """What an operation costs in code written for it alone, where that was measured."""
    lines = []
    for result in results:
        ours, other = result.figures["ours"], result.figures.get("by_hand")
        if other is not None:
            cpu = f"{other.server_cpu:.2f} + {other.database_cpu:.2f} = {other.cpu:.2f} CPU ms"
            ratios = f"ours/by hand {ours.rate / other.rate:.2f} in req/s, {ours.cpu / other.cpu:.2f} in CPU"
            lines.append(f"By hand, {result.operation.title}: {other.rate:,.0f} req/s, {cpu}; {ratios}.")
    return ["", *lines] if lines else []


def bars(results: list[Result]) -> list[str]:
    """Each bar of an operation: what is asked, what was measured, met or missed by how much."""
    lines = ["| operation | bar | asked | measured | |", "|---|---|--:|--:|---|"]
    for result in results:
        ours, naive = result.figures["ours"], result.figures.get("naive")
        bar, title = result.operation.bar, result.operation.title
        if bar is not None and bar.ratio is not None and naive is not None:
            lines.append(_least(title, "req/s, ours/naive", bar.ratio, ours.rate / naive.rate))
        if bar is not None and bar.cpu is not None and naive is not None:
            lines.append(_most(title, "CPU ms", bar.cpu, ours.cpu))
        hand = result.figures.get("by_hand")
        if bar is not None and bar.of_hand is not None and hand is not None:
            lines.append(_most(title, "CPU, ours/by hand", bar.of_hand, ours.cpu / hand.cpu))
        if bar is not None and bar.of_naive is not None and naive is not None:
            lines.append(_most(title, "CPU, ours/naive", bar.of_naive, ours.cpu / naive.cpu))
        if bar is not None and bar.p95 is not None:
            lines.append(_most(title, "p95 ms, one at a time", bar.p95, ours.p95_alone))
        lines.append(_most(title, "p99/p50", TAIL, ours.p99 / ours.p50))
        errors = sum(figures.errors for figures in result.figures.values())
        if errors:
            lines.append(_most(title, "errors", 0, errors))
    return lines


def _least(title: str, what: str, asked: float, measured: float) -> str:
    verdict = "met" if measured >= asked else f"**missed by {(asked - measured) / asked:.0%}**"
    return f"| {title} | {what} | >= {asked:g} | {measured:.2f} | {verdict} |"


def _most(title: str, what: str, asked: float, measured: float) -> str:
    by = f"{(measured - asked) / asked:.0%}" if asked else f"{measured:g}"
    verdict = "met" if measured <= asked else f"**missed by {by}**"
    return f"| {title} | {what} | <= {asked:g} | {measured:.2f} | {verdict} |"


def flatness(small: list[Result], large: list[Result]) -> list[str]:
    """The same operations with ten times the rows; CPU is the figure that the machine disturbs least."""
    lines = [
        "| operation | CPU ms | CPU ms, 10 x rows | | req/s | req/s, 10 x rows | |",
        "|---|--:|--:|---|--:|--:|---|",
    ]
    before = {result.operation.name: result.figures["ours"] for result in small}
    for result in large:
        first, then = before[result.operation.name], result.figures["ours"]
        cells = [result.operation.title]
        for old, new, better in ((first.cpu, then.cpu, -1), (first.rate, then.rate, 1)):
            change = new / old - 1
            worse = -better * change
            cells += [f"{old:,.2f}", f"{new:,.2f}", f"{change:+.0%}" + (" **missed**" if worse > 0.2 else "")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def save(sections: list[tuple[str, list[str]]], data: dict[str, Any], name: str | None = None) -> Path:
    """Writes both files and prints the first."""
    RESULTS.mkdir(exist_ok=True)
    stem = name or datetime.now(UTC).strftime("%Y-%m-%d")
    text = "\n".join(line for title, lines in sections for line in (f"# {title}", "", *lines, ""))
    path = RESULTS / f"{stem}.md"
    path.write_text(text)
    path.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    print(text)
    return path
