"""docs/printing.md says what a template reads: each member of the data, and none that there is not."""

import re
from collections.abc import Iterator
from typing import Any

from crm_api.catalog import CATALOG
from crm_api.domains.printing.formats import locale_of
from crm_api.domains.printing.samples import sample
from crm_api.domains.printing.sheet import SHIPPED, Form
from crm_api.domains.printing.words import LANGUAGES, words_of
from tests.support.documents import ROOT

PAGE = (ROOT / "docs" / "printing.md").read_text(encoding="utf-8")
FREE = ("words", "record")
"""Members that are described as a whole."""


def members(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, dict) and path not in FREE:
        for name, value in node.items():
            yield from members(value, f"{path}.{name}" if path else name)
    elif isinstance(node, list):
        assert node, f"the sample has no {path}"
        for value in node:
            yield from members(value, f"{path}[]")
    else:
        yield path


def test_every_member_of_the_data_is_documented():
    table = PAGE[PAGE.index("| data |") :].split("\n\n")[0]
    documented = {name for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    for resource in CATALOG.resources.values():
        if resource.printed:
            data = sample(resource, Form(SHIPPED, "en", locale_of("en"), "Foot")).data("/logo.png")
            assert set(members(data)) == documented


def test_the_data_of_a_real_document_has_the_same_members(org, account):
    from tests.printing.conftest import order, template, text_of

    source = (
        '#let doc = json("/data.json")\n#doc.keys().sorted().join(" ")\n#doc.lines.first().keys().sorted().join(" ")'
    )
    made = order(org, account)
    text = text_of(org.rep.get(f"/v1/orders/{made['id']}/pdf", params={"template_id": template(org, source)["id"]}))
    data = sample(CATALOG.resources["orders"], Form(SHIPPED, "en", locale_of("en"))).data(None)
    assert sorted(re.findall(r"\w+", text.replace("DRAFT", ""))) == sorted([*data, *data["lines"][0]])


def test_all_languages_have_the_same_words():
    names = {language: set(words_of(language)) for language in LANGUAGES}
    assert names["en"] == names["es"]
    for resource in CATALOG.resources.values():
        if resource.printed:
            assert {resource.singular, *resource.printed.dates} <= names["en"]


def test_the_limits_in_the_text_are_those_of_the_code():
    from crm_api.adapters import typesetting_child as child

    assert f"{child.CPU_SECONDS} seconds of processor time, {child.WALL_SECONDS} by the clock" in PAGE
    assert (
        f"{child.MEMORY // 1024 // 1024} MB of address space and {child.LARGEST // 1024 // 1024} MB of result" in PAGE
    )
