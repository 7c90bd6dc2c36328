"""Text as search sees it: a query taken apart, and values with what matches in them marked."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from crm_api.kernel.duplicates_search import trigrams
from crm_api.kernel.predicates import like
from crm_api.kernel.projection import plain
from crm_api.kernel.schema import fold

MOST_WORDS = 8
SHORTEST_FUZZY = 6
MOST_FUZZY = 3
_PIECES = 3
_TOKEN = re.compile(r"\w+")
_ALIKE_TOKEN = 0.4
MOST_SEGMENTS = 41


@dataclass(frozen=True)
class Query:
    """What is searched for, folded."""

    folded: str

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Its different words, the longest first."""
        return tuple(sorted(dict.fromkeys(self.folded.split()), key=len, reverse=True)[:MOST_WORDS])

    @cached_property
    def patterns(self) -> list[str]:
        """LIKE patterns, three or more, the first of them words that the index knows; none when it knows no word."""
        known = [word for word in self.words if _indexed(word)]
        if not known:
            return []
        rest = [word for word in self.words if word not in known]
        return [like(word) for word in [*_three(known), *known[_PIECES:], *rest]]

    @cached_property
    def longest(self) -> list[str]:
        """The words that others may be like, at most three; none when all are too short for that."""
        return [word for word in self.words if len(word) >= SHORTEST_FUZZY and _indexed(word)][:MOST_FUZZY]

    @cached_property
    def slips(self) -> list[list[str] | None]:
        """Of each word that others may be like, LIKE patterns of which text that is like it has one; None for more."""
        found = [_slips(word) for word in self.longest]
        return [*found, *[None] * (MOST_FUZZY - len(found))]


def _slips(word: str) -> list[str]:
    """Four patterns of what is left of a word whatever slip is in it: all but its beginning or end, or both ends."""
    out, ends = min(4, len(word) - 4), 4 if len(word) > 7 else 3
    both = [like(word[:ends]) + like(word[-3:])[1:], like(word[:3]) + like(word[-ends:])[1:]]
    return [like(word[out:]), like(word[:-out]), *both]


def _three(words: Sequence[str]) -> list[str]:
    return [*words[:_PIECES], *[words[0]] * (_PIECES - len(words))]


def _indexed(word: str) -> bool:
    """Whether the word has a run of three letters or digits, which a trigram index needs."""
    return any(len(run) > 2 for run in re.findall(r"[^\W_]+", word))


def texts(value: Any) -> Iterator[str]:
    """The texts in the value of a field: itself, its items, the parts of its items."""
    if isinstance(value, orjson.Fragment):  # lists come from the database as JSON
        value = plain(value)
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            if isinstance(part, str):
                yield part
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def folded_places(text: str) -> tuple[str, Sequence[int]]:
    """The folded text, and for each of its characters the place in the text that it comes from."""
    if text.isascii():
        return text.lower(), range(len(text))
    parts, places = [], []
    for place, character in enumerate(text):
        part = " " if character.isspace() else fold(character)
        parts.append(part)
        places += [place] * len(part)
    return "".join(parts), places


def alike(word: str, other: str) -> float:
    """The share of a word's trigrams that the other has too."""
    own = trigrams(word)
    return len(own & trigrams(other)) / len(own)


def segments(text: str, query: Query, *, fuzzy: bool) -> list[dict[str, Any]] | None:
    """The text in pieces, each marked whether it matches; None when none does."""
    folded, places = folded_places(text)
    marked = [False] * len(text)
    for start, end in _hits(folded, query, fuzzy=fuzzy):
        for place in places[start:end]:
            marked[place] = True
    if not any(marked):
        return None
    for place, character in enumerate(text):
        if place and unicodedata.combining(character):
            marked[place] = marked[place - 1]  # a letter and its accents stay together
    found: list[dict[str, Any]] = []
    begin = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or (marked[place] != marked[begin] and len(found) < MOST_SEGMENTS - 1):
            found.append({"text": text[begin:place], "match": marked[begin]})
            begin = place
    return found


def _hits(folded: str, query: Query, *, fuzzy: bool) -> Iterator[tuple[int, int]]:
    for word in query.words:
        at = folded.find(word)
        while at >= 0:
            yield at, at + len(word)
            at = folded.find(word, at + len(word))
    if fuzzy:
        for token in _TOKEN.finditer(folded):
            if any(alike(word, token[0]) >= _ALIKE_TOKEN for word in query.longest):
                yield token.span()
