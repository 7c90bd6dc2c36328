"""What pages say, in English and Spanish. The English text is the key; each domain with pages adds its own here."""

from collections.abc import Mapping
from typing import Literal

from starlette.requests import Request

Language = Literal["en", "es"]
_SPANISH: dict[str, str] = {}


def add_spanish(texts: Mapping[str, str]) -> None:
    """Makes texts of a domain known: English -> Spanish."""
    _SPANISH.update(texts)


def say(language: str, text: str, **values: object) -> str:
    """A text in a language, with values in the places of `{name}`."""
    return (_SPANISH.get(text, text) if language == "es" else text).format(**values)


def language_of(request: Request, preferred: str | None = None) -> Language:
    """The language of a person's record, else the first of ours in Accept-Language (RFC 9110), else English."""
    if preferred:
        return "es" if preferred[:2] == "es" else "en"
    best: tuple[float, Language] = (0.0, "en")
    for item in request.headers.get("accept-language", "").split(",")[:20]:
        name, _, weight = item.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
        if name.strip()[:2].lower() == "es" and quality > best[0]:
            best = quality, "es"
        elif name.strip()[:2].lower() in ("en", "*") and quality > best[0]:
            best = quality, "en"
    return best[1]
