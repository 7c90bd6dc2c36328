"""Orders as PDFs over HTTP: what stands on them, in which language and form, and for whom."""

import re
from decimal import Decimal

from babel.numbers import get_currency_precision
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_api.catalog import CATALOG
from crm_api.domains.printing.formats import Formats, locale_of
from crm_api.kernel.spec import document
from tests.printing.conftest import PNG, order, pages, template, text_of

ADDRESS = {"line1": "Hauptstraße 1", "postal_code": "10115", "city": "Berlin", "country": "DE"}
LINES = (
    {"description": "Chai", "quantity": "3", "unit_price": "1500", "discount_percent": "10", "tax_percent": "19"},
    {"description": "Book", "quantity": "2.5", "unit_price": "4.9975", "tax_percent": "7"},
)


def printed(person, made, **params):
    return person.get(f"/v1/orders/{made['id']}/pdf", params=params)


def test_a_draft_is_printed_in_english_and_marked(org, account):
    made = order(
        org, account, *LINES, billing_address=ADDRESS, payment_terms="30 days net", note="Ring twice.",
        client_reference="PO 4711", ordered_on="2026-03-09",
    )  # fmt: skip
    answer = printed(org.rep, made)
    text = text_of(answer)
    assert answer.headers["content-disposition"].startswith(f'inline; filename="order-{made["id"]}.pdf"')
    for part in (
        *("DRAFT", "Kaufmann & Söhne KG", "Hauptstraße 1", "10115 Berlin", "Germany", account["tax_id"], "PO 4711"),
        *(
            "Mar 9, 2026",
            "Chai",
            "1,500.00",
            "450.00",
            "4,050.00",
            "2.5",
            "4.9975",
            "12.49",
            "30 days net",
            "Ring twice.",
        ),
        *(
            "Net total €4,062.49",
            "19% (of €4,050.00) €769.50",
            "7% (of €12.49) €0.87",
            "Total €4,832.86",
            "Page 1 of 1",
        ),
    ):
        assert part in text, part
    assert made["gross_total"] == "4832.86"


def test_a_confirmed_order_is_printed_in_spanish_with_its_number(org, account):
    made = order(org, account, *LINES, billing_address=ADDRESS, ordered_on="2026-03-09")
    number = org.rep.post(f"/v1/orders/{made['id']}/confirm").json()["number"]
    answer = printed(org.rep, made, language="es")
    text = text_of(answer)
    assert answer.headers["content-disposition"].startswith(f'inline; filename="{number}.pdf"')
    for part in (
        *(f"Pedido {number}", "9 mar 2026", "Alemania", "Descuentos incluidos", "1.500,00", "2,5", "4,9975"),
        *("Base imponible 4.062,49 €", "19 % (de 4.050,00 €) 769,50 €", "Total 4.832,86 €", "Página 1 de 1"),
    ):
        assert part in text, part
    assert "BORRADOR" not in text


def test_the_country_of_a_language_says_how_amounts_are_written(org, account):
    text = text_of(printed(org.rep, order(org, account, currency="MXN"), language="es-MX"))
    assert "Total $1,469.06" in text


def test_the_language_is_that_of_the_contact_unless_told(org, account):
    contact = org.rep.make("contacts", first_name="Ana", last_name="Gómez", language="es", account_id=account["id"])
    made = order(org, account, contact_id=contact["id"])
    assert "Ana Gómez" in text_of(printed(org.rep, made))
    assert "Página 1" in text_of(printed(org.rep, made))
    assert "Page 1" in text_of(printed(org.rep, made, language="en"))


def test_a_contact_of_a_language_without_a_form_gets_english(org, account):
    contact = org.rep.make("contacts", last_name="Dupont", language="fr", account_id=account["id"])
    assert "Page 1" in text_of(printed(org.rep, order(org, account, contact_id=contact["id"])))


def test_units_are_named(org, account):
    unit = org.admin.make("units", code="crate", name="Crates", decimals=0)
    product = org.admin.make(
        "products", sku="TEA-1", name="Tea", kind="goods", unit_id=unit["id"], list_price="3", currency="EUR"
    )
    text = text_of(printed(org.rep, order(org, account, {"product_id": product["id"], "quantity": "4"})))
    assert "4 crate" in text
    assert "TEA-1" in text


def test_an_empty_order_is_printed(org, account):
    made = org.rep.make("orders", account_id=account["id"], currency="EUR")
    assert "Total €0.00" in text_of(printed(org.rep, made))


def test_a_long_order_repeats_its_header_on_every_page(org, account):
    lines = [
        {"description": f"Item {i:04d}", "quantity": str(i), "unit_price": "1.25", "tax_percent": "19"}
        for i in range(1, 1001)
    ]
    found = pages(printed(org.rep, order(org, account, *lines)))
    with_lines = [text for text in found if re.search(r"Item \d{4}", text)]
    assert len(with_lines) > 10
    assert all("Unit price" in text and "Description" in text for text in with_lines)
    items = re.findall(r"Item (\d{4})", "\n".join(found))
    assert items == [f"{i:04d}" for i in range(1, 1001)]
    assert f"Page {len(found)} of {len(found)}" in found[-1]
    assert "Net total €625,625.00" in found[-1]


def test_what_a_text_looks_like_in_typst_is_printed_as_it_is(org):
    evil = '#read("/etc/passwd") $x$ *b* _i_ <l> @r `c` \\ // [a] "q" #eval("1+1")'
    account = org.rep.make("accounts", name=evil)
    made = order(
        org, account, {"description": evil, "unit_price": "1"}, note=evil, payment_terms=evil, client_reference=evil
    )
    text = text_of(printed(org.rep, made)).replace("\n", "")
    assert text.replace(" ", "").count(evil.replace(" ", "")) >= 4


def test_the_entity_tag_holds_until_something_changes_that_is_printed(org, account):
    made = order(org, account)
    path = f"/v1/orders/{made['id']}/pdf"
    first = org.rep.get(path)
    tag = first.headers["etag"]
    again = org.rep.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert org.rep.get(path).content == first.content, "the same document is the same bytes"
    head = org.rep.head(path)
    assert (head.status_code, head.headers["etag"], head.headers["content-type"]) == (200, tag, "application/pdf")
    tags = {tag, org.rep.get(path, params={"language": "es"}).headers["etag"]}
    assert org.rep.patch(f"/v1/orders/{made['id']}", json={"note": "New"}).status_code == 200
    tags.add(org.rep.get(path, headers={"If-None-Match": tag}).headers["etag"])
    assert org.rep.patch(f"/v1/accounts/{account['id']}", json={"legal_name": "Kaufmann & Co"}).status_code == 200
    changed = org.rep.get(path, headers={"If-None-Match": tag})
    assert "Kaufmann & Co" in text_of(changed)
    tags.add(changed.headers["etag"])
    form = template(org, "= Own")
    tags.add(org.rep.get(path, params={"template_id": form["id"]}).headers["etag"])
    org.admin.patch(f"/v1/document_templates/{form['id']}", json={"footer": "Foot"})
    tags.add(org.rep.get(path, params={"template_id": form["id"]}).headers["etag"])
    assert len(tags) == 6


def test_only_who_may_read_the_order_prints_it(org, account):
    made = order(org, account)
    answers = [printed(person, made).status_code for person in (org.rep, org.manager, org.reader, org.outsider)]
    assert answers == [200, 200, 200, 404]
    nobody = org.person("nobody", org.role("Nobody", ("accounts:read", "all")))
    refused = printed(nobody, made)
    assert (refused.status_code, refused.json()["permission"]) == (403, "orders:read")


def test_rules_of_fields_and_rows_hold_on_paper(org, account):
    contact = org.rep.make("contacts", last_name="Hidden", account_id=account["id"])
    made = order(org, account, contact_id=contact["id"], note="Secret note", billing_address=ADDRESS)
    rules = [
        {"resource": "orders", "field": "note", "rule": "hidden"},
        {"resource": "accounts", "field": "tax_id", "rule": "hidden"},
        {"resource": "accounts", "field": "legal_name", "rule": "hidden"},
    ]
    names = ("orders:read", "accounts:read", "contacts:read")
    clerk = org.person("clerk", org.role("Clerk", *((name, "all") for name in names), field_rules=rules))
    text = text_of(printed(clerk, made))
    assert "Kaufmann" in text
    for hidden in ("Secret note", account["tax_id"], "Söhne"):
        assert hidden not in text, hidden
    alone = org.person("alone", org.role("Orders alone", ("orders:read", "all")))
    text = text_of(printed(alone, made))
    assert "Hauptstraße 1" in text
    assert "Kaufmann" not in text
    assert "Hidden" not in text


def test_a_tenants_own_template_goes_before_the_shipped_one(org, account):
    made = order(org, account)
    spanish = template(org, '#let doc = json("/data.json")\nNuestro: #doc.totals.gross', language="es")
    assert "Nuestro" not in text_of(printed(org.rep, made, language="es"))
    assert org.admin.post(f"/v1/document_templates/{spanish['id']}/make_default").json()["is_default"]
    assert "Nuestro: 1.469,06 €" in text_of(printed(org.rep, made, language="es"))
    assert "Nuestro" not in text_of(printed(org.rep, made, language="en"))
    other = template(org, "Otro", language="es")
    assert org.admin.post(f"/v1/document_templates/{other['id']}/make_default").status_code == 200
    assert not org.admin.get(f"/v1/document_templates/{spanish['id']}").json()["is_default"]
    assert text_of(printed(org.rep, made, language="es")).startswith("Otro")
    blind = org.person("blind", org.role("No forms", ("orders:read", "all")))
    assert text_of(printed(blind, made, language="es")).startswith("Otro")
    assert org.admin.delete(f"/v1/document_templates/{other['id']}").status_code == 204
    assert "Página 1" in text_of(printed(org.rep, made, language="es"))


def test_a_template_that_is_named_prints_in_its_language(org, account):
    made = order(org, account)
    german = template(org, '#let doc = json("/data.json")\nSumme: #doc.totals.gross', language="de")
    assert "Summe: 1.469,06 €" in text_of(printed(org.rep, made, template_id=german["id"]))
    assert "Summe: €1,469.06" in text_of(printed(org.rep, made, template_id=german["id"], language="en"))


def test_logo_and_footer_stand_on_the_document(org, account):
    source = '#let doc = json("/data.json")\n#if doc.logo != none { image(doc.logo, width: 1cm) }\n#doc.footer'
    form = template(org, source, footer="Bank #1")
    path = f"/v1/document_templates/{form['id']}"
    file = org.admin.post(
        "/v1/files",
        params={"object_type": "document_template", "object_id": form["id"], "name": "logo.png"},
        content=PNG,
    ).json()
    made = order(org, account)
    assert org.admin.patch(path, json={"logo_file_id": file["id"]}).status_code == 200
    for answer in (printed(org.rep, made, template_id=form["id"]), org.rep.get(f"{path}/preview")):
        assert "Bank #1" in text_of(answer)
        assert b"/Subtype/Image" in answer.content.replace(b" ", b"")
    assert org.admin.delete(f"/v1/files/{file['id']}").status_code == 204
    assert b"/Subtype/Image" not in org.rep.get(f"{path}/preview").content.replace(b" ", b"")


def test_a_language_or_template_that_there_is_not_is_refused_with_its_place(org, account):
    made = order(org, account)
    for params, name, code in (
        ({"language": "fr"}, "language", "no_template"),
        ({"language": "xx"}, "language", "invalid_value"),
        ({"language": "../e"}, "language", "invalid_value"),
        ({"template_id": made["id"]}, "template_id", "reference_not_found"),
        ({"template_id": "x"}, "template_id", "reference_not_found"),
        ({"form": "x"}, "form", "unknown_parameter"),
    ):
        answer = printed(org.rep, made, **params)
        assert answer.status_code == 422, (params, answer.text)
        (fault,) = answer.json()["errors"]
        assert (fault["parameter"], fault["code"]) == (name, code)
    assert org.rep.get("/v1/orders/x/pdf").status_code == 404


def test_a_quote_is_printed_too(org, account):
    made = org.rep.make(
        "quotes",
        account_id=account["id"],
        currency="EUR",
        lines=list(LINES),
        quoted_on="2026-03-09",
        valid_until="2090-01-31",
    )
    english = text_of(org.rep.get(f"/v1/quotes/{made['id']}/pdf"))
    for part in ("DRAFT", "Quote date Mar 9, 2026", "Valid until Jan 31, 2090", "Total €4,832.86"):
        assert part in english, part
    sent = org.rep.post(f"/v1/quotes/{made['id']}/send")
    assert sent.status_code == 200, sent.text
    spanish = text_of(org.rep.get(f"/v1/quotes/{made['id']}/pdf", params={"language": "es"}))
    for part in (f"Presupuesto {sent.json()['number']}", "Válido hasta 31 ene 2090", "Total 4.832,86 €"):
        assert part in spanish, part
    assert "BORRADOR" not in spanish
    form = template(org, "= Order only")
    answer = org.rep.get(f"/v1/quotes/{made['id']}/pdf", params={"template_id": form["id"]})
    assert answer.json()["errors"][0]["parameter"] == "template_id"


def test_the_contract_knows_what_is_printed():
    paths = document(CATALOG)["paths"]
    resources = [resource for resource in CATALOG.resources.values() if resource.printed]
    assert {resource.plural for resource in resources} == {"orders", "quotes"}
    for resource in resources:
        operation = paths[f"/v1/{resource.plural}/{{id}}/pdf"]["get"]
        assert operation["operationId"] == f"print_{resource.singular}"
        assert set(operation["responses"]["200"]["content"]) == {"application/pdf"}
        assert "ETag" in operation["responses"]["200"]["headers"]
        assert {"304", "401", "403", "404", "422", "503"} <= set(operation["responses"])
        assert [item["name"] for item in operation["parameters"]] == ["id", "language", "template_id", "If-None-Match"]


@settings(max_examples=200, deadline=None)
@given(
    st.decimals(-(10**14) + 1, 10**14 - 1, places=4),
    st.sampled_from(["en", "es", "es-MX", "de-AT", "en-IN", "fr-CH", "pl", "ja"]),
    st.sampled_from(["EUR", "JPY", "KWD", "MXN"]),
)
def test_no_digit_of_an_amount_is_lost_or_made_up(amount, language, currency):
    formats = Formats(locale_of(language), currency)
    for text in (formats.amount(str(amount)), formats.money(str(amount))):
        digits = re.sub(r"[^0-9]", "", text)
        _, _, decimals = f"{abs(amount):f}".rstrip("0").partition(".")
        shown = max(len(decimals), get_currency_precision(currency) if decimals_fit(amount, currency) else 2)
        assert digits.lstrip("0") == f"{abs(amount):.{shown}f}".replace(".", "").lstrip("0"), (text, amount)
        assert (amount < 0) == ("-" in text or "\u2212" in text), text


def decimals_fit(amount: Decimal, currency: str) -> bool:
    return amount == round(amount, get_currency_precision(currency))
