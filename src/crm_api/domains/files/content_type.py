"""What a file is, by its first bytes: neither its name nor what a client says of it is believed."""

from typing import Final

HEAD: Final = 8_192
"""Bytes that are looked at."""
UNKNOWN: Final = "application/octet-stream"
_BEGINNINGS: Final = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"{\\rtf", "application/rtf"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
)
_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
_ZIPPED: Final = (
    (b"word/", _OFFICE + "wordprocessingml.document"),
    (b"xl/", _OFFICE + "spreadsheetml.sheet"),
    (b"ppt/", _OFFICE + "presentationml.presentation"),
)
_RIFF: Final = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_BRANDS: Final = {b"heic": "image/heic", b"avif": "image/avif", b"M4A ": "audio/mp4"}
TYPES: Final = frozenset(
    {kind for _, kind in (*_BEGINNINGS, *_ZIPPED)}
    | {*_RIFF.values(), *_BRANDS.values()}
    | {UNKNOWN, "text/plain", "text/csv", "application/x-ndjson", "application/zip", "video/mp4"}
)
"""All that a file may be; markup and scripts are plain text here, whatever they call themselves."""


def content_type(head: bytes, *, whole: bool) -> str:
    """The type of a file that begins with these bytes; `whole` when there are no others."""
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head.startswith(b"PK\x03\x04"):
        office = (kind for part, kind in _ZIPPED if b"[Content_Types].xml" in head and part in head)
        return next(office, "application/zip")
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12], UNKNOWN)
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    return "text/plain" if head and _is_text(head, whole=whole) else UNKNOWN


def _is_text(head: bytes, *, whole: bool) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(head) - 3:  # else the end of what is looked at cut a character
            return False
        text = head[: error.start].decode()
    return not any(ord(sign) < 32 and sign not in "\t\n\r\f\x1b" for sign in text)
