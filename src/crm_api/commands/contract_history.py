"""Keeps openapi/changes.md in step with the contract: what differs from the last release, with a reason for a break."""

import gzip
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from crm_api.commands.contract_changes import breaking, changes
from crm_api.kernel.problems import ConfigurationError

_HEAD = "### In full"
_NOTE = (
    "By `crm-api openapi`, against `baseline.json.gz`. What breaks has a reason after the colon, by hand; "
    "`!` is a break that only people see."
)
_LINE = re.compile(r"- `([-+~!] [^`]+)`(?:: (.+))?")


def baseline(folder: Path) -> Mapping[str, Any]:
    """The document of the last release, which stands beside the present one: clones without tags have it, too."""
    try:
        found: Mapping[str, Any] = orjson.loads(gzip.decompress((folder / "baseline.json.gz").read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{folder / 'baseline.json.gz'} is not the document of a release.") from error
    return found


def section(history: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The history with the list of differences below `Unreleased` made anew; reasons that were written stay."""
    before, rest, after = _parts(history)
    reasons = {found[1]: found[2] for line in rest.splitlines() if (found := _LINE.fullmatch(line)) is not None}
    lines = changes(old, new)
    breaks = breaking(lines, old, new)
    breaks += [line for line in reasons if line.startswith("!")]
    others = [line for line in lines if line not in breaks]
    told = [f"- `{line}`" + (f": {reasons[line]}" if reasons.get(line) else "") for line in [*breaks, *others]]
    titles = (("Breaking:", told[: len(breaks)]), ("Besides:", told[len(breaks) :]))
    listed = "".join(f"\n{title}\n\n" + "\n".join(part) + "\n" for title, part in titles if part)
    return f"{before}{_HEAD}\n\n{_NOTE}\n{listed or f'{chr(10)}Nothing.{chr(10)}'}{after}"


def undeclared(history: str) -> list[str]:
    """The breaks that nobody gave a reason for."""
    _, _, part = _parts(history)[1].partition("Breaking:")
    lines = part.partition("Besides:")[0].splitlines()
    return [found[1] for line in lines if (found := _LINE.fullmatch(line)) and found[2] is None]


def released(history: str, version: str) -> str:
    """The history once the present contract is released: what was unreleased is of this version."""
    return history.replace("## Unreleased\n", f"## Unreleased\n\n## {version}\n", 1)


def _parts(history: str) -> tuple[str, str, str]:
    """(what is before the list, the list, what comes after it: earlier releases)."""
    _, mark, unreleased = history.partition("## Unreleased\n")
    if not mark:
        raise ConfigurationError("openapi/changes.md has no `## Unreleased`.")
    own, following, earlier = unreleased.partition("\n## ")
    notes, _, rest = own.partition(_HEAD)
    start = history.partition("## Unreleased\n")[0] + mark
    return f"{start}\n{notes.strip()}\n\n" if notes.strip() else f"{start}\n", rest, following + earlier
