"""An example of each kind of custom field: what defines it, values in their order, and what it does not take."""

from dataclasses import dataclass, field
from typing import Any

from crm_api.kernel.customs import KINDS


@dataclass(frozen=True)
class Example:
    """`values` are distinct and ascend, as they are sent back; `given` are other ways to write the first of them."""

    kind: str
    values: tuple[Any, ...]
    bad: tuple[Any, ...]
    given: tuple[Any, ...] = ()
    definition: dict[str, Any] = field(default_factory=dict)


CHOICES = [{"value": value} for value in ("bronze", "gold", "silver")]
NOBODY = "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"
EXAMPLES = (
    Example("text", ("A", "B", "C"), (1, "", "x" * 501, [], {}), ("  A ",)),
    Example("long_text", ("x" * 600, "y" * 9_000, "z"), (1, "", "x" * 10_001)),
    Example("number", (-5, 0, 10**15), (1.5, "1", True, 10**15 + 1)),
    Example("decimal", ("-2.5", "0.000001", "10"), (1, "1.0000001", "1e3", "NaN", ""), ("-2.50",)),
    Example("money", ("-3.50", "0.00", "1234.5678"), (1, "1.00001", "x"), ("-3.5",)),
    Example("date", ("0001-01-01", "1969-12-31", "9999-12-31"), ("2026-02-30", 20260101, "2026-1-1", "20260101")),
    Example(
        "instant",
        ("1969-12-31T23:59:59.500000Z", "2026-01-01T00:00:00Z", "9999-12-31T00:00:00Z"),
        ("2026-01-01T00:00:00", "2026-01-01", 0, "0001-01-01T00:00:00+14:00", "2026-13-01T00:00:00Z"),
        ("1970-01-01T01:59:59.5+02:00",),
    ),
    Example("boolean", (False, True), (0, "true", "yes")),
    Example("choice", ("bronze", "gold", "silver"), ("lead", "", 1, "Gold"), (), {"choices": CHOICES}),
    Example(
        "multi_choice",
        (["bronze"], ["bronze", "gold"], ["silver"]),
        (["lead"], "gold", [1], ["gold", "lead"]),
        (["bronze", "bronze"],),
        {"choices": CHOICES},
    ),
    Example("reference", (), (NOBODY, "x", 1), (), {"target": "accounts"}),
    Example("url", ("https://a.example", "https://b.example"), ("ftp://a.example", "https://", "a", 1)),
    Example("email", ("a@example.com", "b@example.com"), ("a", "a@", 1)),
    Example("phone", ("+4930123456", "+4930123457"), ("030123456", "+49", 4930123456), ("+49 30 123456",)),
)
BY_KIND = {example.kind: example for example in EXAMPLES}
assert set(BY_KIND) == set(KINDS)
