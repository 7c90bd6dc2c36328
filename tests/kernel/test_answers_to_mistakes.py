"""What is wrong with a request is said with its place, and with what was probably meant."""

import pytest


def refusal(answer, status=422):
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("parameter", "value", "said"),
    [
        ("statuss", "active", "There is no parameter statuss here. Did you mean status?"),
        ("qqqqqqqq", "1", "There is no parameter qqqqqqqq here."),
        ("created_at_gte", "2026-01-01T00:00:00", "such as 2026-12-31T18:00:00Z"),
        ("created_at_gte", "2026-01-01T00:00:00 01:00", "the + of an offset is written %2B"),
        ("annual_revenue_gte", "1,000", 'a decimal string such as "1234.50"'),
        ("owner_id", "4711", "an id: a UUID, or ext:{source}:{external_id}"),
    ],
)
def test_a_wrong_parameter_is_told(org, parameter, value, said):
    answer = refusal(org.rep.get("/v1/accounts", params={parameter: value}))
    assert said in answer["detail"]
    assert answer["errors"] == [
        {"parameter": parameter, "code": answer["errors"][0]["code"], "detail": answer["detail"]}
    ]


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        ({"name": "x", "industri": "y"}, "unknown_field", "/industri: There is no such field. Did you mean industry?"),
        ({"name": "x", "name_": "y"}, "unknown_field", "/name_: There is no such field. Did you mean name?"),
        (
            {"name": "x", "currency": "eur"},
            "invalid_currency",
            '/currency: A currency is an ISO 4217 code such as "EUR".',
        ),
        ({"name": "x", "parent_id": "4711"}, "invalid_reference", "/parent_id: This is neither an id (a UUID) nor"),
        ({"name": 5}, "string_type", "/name: Input should be a valid string"),
        (["x"], "model_type", "the body: Input should be an object"),
    ],
)
def test_one_fault_of_a_body_is_the_detail(org, body, code, detail):
    answer = refusal(org.rep.post("/v1/accounts", json=body))
    assert answer["errors"][0]["code"] == code
    assert answer["detail"].startswith(detail)


def test_several_faults_of_a_body_are_counted(org):
    answer = refusal(org.rep.post("/v1/accounts", json={"name": 5, "employees": "x"}))
    assert answer["detail"] == "2 values are wrong; see errors."
    assert [fault["pointer"] for fault in answer["errors"]] == ["/name", "/employees"]


def test_an_empty_body_is_told(org):
    answer = refusal(org.rep.post("/v1/accounts"), 400)
    assert (answer["code"], answer["detail"]) == ("malformed_json", "The body is empty; send a JSON object.")


def test_the_id_of_a_record_is_not_an_unknown_field(org):
    account = org.rep.make("accounts", name="Named")
    answer = refusal(org.rep.patch(f"/v1/accounts/{account['id']}", json={"id": account["id"], "status": "active"}))
    assert {fault["code"] for fault in answer["errors"]} == {"read_only_field"}
    assert {fault["detail"] for fault in answer["errors"]} == {
        "This is not set here: the server, a verb or the creation sets it."
    }


def test_a_verb_in_the_wrong_state_names_the_right_ones(org):
    account = org.rep.make("accounts", name="Active")
    path = f"/v1/accounts/{account['id']}/activate"
    assert org.rep.post(path).status_code == 200
    answer = refusal(org.rep.post(path), 409)
    assert answer["detail"] == "The account is active; activate takes at_risk or inactive or prospect."


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/account", "/v1/openapi.json", "/v1/accounts/{id}/activat"])
def test_an_unknown_path_leads_to_the_reference(org, path):
    account = org.rep.make("accounts", name="Lost")
    answer = refusal(org.rep.get(path.format(id=account["id"])), 404)
    assert answer["detail"] == "There is no such path; /docs shows those there are."


def test_unknown_names_are_answered_with_those_that_are_meant(org):
    def detail(answer):
        return refusal(answer)["detail"]

    batch = {"operations": [{"operation": "createAccount", "body": {"name": "x"}}]}
    assert "Did you mean create_account?" in detail(org.admin.post("/v1/batch", json=batch))
    role = {"name": "Typo", "permissions": [{"permission": "acounts:read", "reach": "own"}]}
    assert "Did you mean accounts:read?" in detail(org.admin.post("/v1/roles", json=role))
    imported = {"name": "x", "resource": "account"}
    assert "Did you mean accounts?" in detail(org.admin.post("/v1/imports", json=imported))
    exported = {"resource": "account"}
    assert "Did you mean accounts?" in detail(org.admin.post("/v1/exports", json=exported))
    asked = {"resource": "account", "id": org.rep.id}
    assert "Did you mean accounts?" in detail(org.admin.get("/v1/access/explain", params=asked))
    asked = {"resource": "accounts", "id": org.rep.id, "action": "write"}
    assert "one of activate, " in detail(org.admin.get("/v1/access/explain", params=asked))
    assert "Did you mean order.confirmed?" in detail(org.admin.get("/v1/changes", params={"types": "order.confirm"}))
    assert detail(org.admin.get("/v1/search")) == "q: Field required"


def test_what_is_missing_is_called_by_its_kind(org):
    rules = [{"resource": "accounts", "field": "annual_revenue", "rule": "hidden"}]
    person = org.person("half_blind", org.role("Half blind", ("accounts:read", "own"), field_rules=rules))
    answer = refusal(person.get("/v1/accounts", params={"annual_revenue_gte": "1"}), 403)
    assert answer["detail"] == "This needs sight of the field accounts.annual_revenue."
    assert refusal(person.get("/v1/orders"), 403)["detail"] == "This needs the permission orders:read."
    issued = {"name": "bounded", "scopes": ["contacts:read"]}
    key = org.admin.post(f"/v1/users/{person.id}/issue_key", json=issued).json()["key"]
    answer = refusal(person.get("/v1/accounts", headers={"Authorization": f"Bearer {key}"}), 403)
    assert (answer["detail"], answer["permission"]) == ("This needs the scope accounts:read.", "scope accounts:read")


def test_a_refused_request_is_counted_where_it_went(org):
    def counted():
        lines = org.rep.get("/metrics").text.splitlines()
        start = 'crm_request_seconds_count{method="GET",route="accounts"} '
        return next((float(line.removeprefix(start)) for line in lines if line.startswith(start)), 0.0)

    before = counted()
    assert org.rep.get("/v1/accounts", params={"bogus": "1"}).status_code == 422
    assert org.rep.get("/v1/accounts/4711").status_code == 404
    assert counted() == before + 2
