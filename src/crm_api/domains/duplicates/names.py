"""Names as they are compared: without accents, punctuation and what only says which form a company has."""

import re

from crm_api.kernel.schema import fold

_FORMS = frozenset(
    (
        *("gmbh", "ag", "kg", "ohg", "gbr", "ug", "se", "ev", "eg", "mbh", "kgaa", "haftungsbeschrankt"),
        *("inc", "incorporated", "corp", "corporation", "co", "company", "ltd", "limited", "llc", "llp", "lp", "plc"),
        *("sa", "sas", "sarl", "sl", "slu", "srl", "spa", "snc", "sca", "cv", "sapi", "bv", "nv", "vof"),
        *("ab", "as", "asa", "aps", "oy", "oyj", "kk", "pty", "pte", "pvt", "sro", "spzoo", "doo", "kft", "zrt"),
    )
)
_JOINTS = frozenset({"de", "and", "und", "y", "et", "e"})
_DOTS, _REST = re.compile(r"[.'’`´]"), re.compile(r"[^\w]+")  # noqa: RUF001


def bare_name(text: str | None) -> str:
    """`Kaufmann & Söhne GmbH & Co. KG` as `kaufmann sohne`; a name that is nothing else keeps its last word."""
    words = _REST.sub(" ", _DOTS.sub("", fold(text or ""))).split()
    while len(words) > 1 and (words[-1] in _FORMS or words[-1] in _JOINTS):
        words.pop()
    return " ".join(words)
