"""What stands on a document beside its record, by language."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "strings"
LANGUAGES: tuple[str, ...] = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))
"""In which there are words, and so documents without a template of the tenant's own."""
DEFAULT = "en"


@cache
def words_of(language: str) -> Mapping[str, str]:
    """The words of a language, without its country; English where there are none."""
    base = language.partition("-")[0]
    found: dict[str, str] = json.loads((_FOLDER / f"{base if base in LANGUAGES else DEFAULT}.json").read_text("utf-8"))
    return found


def word(words: Mapping[str, str], name: str) -> str:
    """What a field or record is called; its own name, made readable, where nobody has written the word down."""
    return words.get(name) or name.removesuffix("_on").replace("_", " ").capitalize()
