"""Passwords that guessers try first: the common ones, as zxcvbn estimates them, and patterns that it does not know."""

import re
from collections.abc import Iterable
from functools import cache
from itertools import product

from crm_api.kernel.schema import fold

_WORDS = (
    *("password", "passwort", "passphrase", "contrasena", "clave", "secreto", "secret", "welcome", "bienvenido"),
    *("admin", "administrator", "administrador", "root", "user", "usuario", "guest", "login", "letmein", "master"),
    *("changeme", "default", "temporal", "iloveyou", "tequiero", "sunshine", "princess", "dragon", "monkey", "shadow"),
    *("football", "futbol", "baseball", "superman", "batman", "summer", "winter", "spring", "autumn", "verano"),
    *("invierno", "primavera", "january", "february", "march", "april", "october", "november", "december", "monday"),
    *("friday", "computer", "internet", "company", "empresa", "sales", "ventas", "customer", "cliente", "office"),
    *("trustno", "whatever", "freedom", "hello", "hola", "love", "amor", "money", "dinero", "test", "demo", "crm"),
)
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop", "1234567890", "abcdefghijklmnopqrstuvwxyz")
_LEET = str.maketrans("0134578@$!", "oleastbasi")
_ESTIMATED = 40
"""Characters that are estimated: what follows makes no password easier, and the time for it grows with their square."""
_GUESSES = 1e6
"""Fewer are in reach of who guesses at a form that slows them down, by its authors."""
_LEFT = 6


@cache
def _roots() -> frozenset[str]:
    """Some thousands: each word, and each two of the shorter ones."""
    pairs = (a + b for a, b in product(_WORDS, repeat=2) if len(a) + len(b) <= 16)
    return frozenset((*_WORDS, *pairs))


def _walks(text: str) -> bool:
    """Whether a text goes along rows of the keyboard, one way or the other."""
    rows = [row * 2 for row in _ROWS] + [row[::-1] * 2 for row in _ROWS]
    place = 0
    while place < len(text):
        step = next((n for n in range(len(text) - place, 2, -1) if any(text[place : place + n] in r for r in rows)), 0)
        if not step:
            return False
        place += step
    return True


def is_weak(password: str, known: Iterable[str] = ()) -> bool:
    """Whether a password is one of the first that are tried.

    Args:
        password: normalised.
        known: what everybody knows of the person: name, e-mail, organisation.
    """
    from zxcvbn import zxcvbn  # noqa: PLC0415 - 14 MB that a process needs when somebody chooses a password

    text = fold(password).replace(" ", "")
    if not text or zxcvbn(text[:_ESTIMATED], max_length=_ESTIMATED)["guesses"] < _GUESSES or _walks(text):
        return True
    for plain in {text, re.sub("[^a-z]+$", "", text).translate(_LEET)}:
        if re.sub("[^a-z]+", "", plain) in _roots():
            return True
        left = plain
        for part in sorted({piece for item in known for piece in re.findall("[a-z0-9]{3,}", fold(item))}, key=len):
            left = left.replace(part, "")
        if left != plain and len(left) < _LEFT:
            return True
    return False
