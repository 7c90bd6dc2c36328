"""Reads the documents: fenced blocks with what their fence says about them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: `language` and what else stands on its first line."""

    language: str
    rest: str
    text: str
    line: int


def blocks(document: Path, language: str | None = None) -> list[Block]:
    """The fenced blocks of a document, in order."""
    whole = document.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(whole):
        name, _, rest = match["info"].strip().partition(" ")
        found.append(Block(name, rest.strip(), match["text"], whole.count("\n", 0, match.start()) + 1))
    return [block for block in found if language in (None, block.language)]
