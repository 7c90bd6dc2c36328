"""How well a row that was found answers the question, and where."""

import re
from typing import Any

from crm_api.domains.search.matches import Match
from crm_api.domains.search.words import Query, segments
from crm_api.kernel.schema import fold

NAMES = {"contacts": ("first_name", "last_name"), "leads": ("first_name", "last_name", "company")}
"""Resources whose records are called by more than one field."""
MOST_HIGHLIGHTS = 10
LONGEST_TITLE = 500
LONGEST_TEXT = 500
EXACT, VALUE, BEGINNING, WORDS, WORD_BEGINNINGS, PARTS, FUZZY = 1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5
_TOKEN = re.compile(r"\w+")


def title(match: Match) -> str:
    """What people call the record; the fields that are hidden from the caller are left out."""
    names = NAMES.get(match.resource.plural, (match.resource.title,))
    return " ".join(text for name in names if (text := match.item.get(name)))[:LONGEST_TITLE]


def score(match: Match, query: Query) -> float:
    """From 0 to 1: the whole title, another whole value, the title's beginning, words, beginnings, parts, likeness."""
    if match.alike is not None:
        return round(FUZZY * min(match.alike, 0.99), 4)
    names = [fold(title(match)), fold(str(match.item.get(match.resource.title) or ""))]
    if query.folded in names:
        return EXACT
    values = [fold(text) for _, text in match.texts]
    if query.folded in values:
        return VALUE
    if any(name.startswith(query.folded) for name in names):
        return BEGINNING
    tokens = [token for value in values for token in (*value.split(), *_TOKEN.findall(value))]
    if all(word in tokens for word in query.words):
        return WORDS
    if all(any(token.startswith(word) for token in tokens) for word in query.words):
        return WORD_BEGINNINGS
    return PARTS


def highlights(match: Match, query: Query) -> list[dict[str, Any]]:
    """Values of searched fields with what matches in them, in the order of the fields."""
    found: list[dict[str, Any]] = []
    for name, text in match.texts:
        pieces = segments(text[:LONGEST_TEXT], query, fuzzy=match.alike is not None)
        if pieces is not None:
            found.append({"field": name, "segments": pieces})
        if len(found) == MOST_HIGHLIGHTS:
            break
    return found
