"""The shortest way through the product, over HTTP."""


def test_create_read_change_delete(org):
    account = org.rep.make("accounts", name="Taquería Ñandú", annual_revenue="12.5")
    assert account["annual_revenue"] == "12.50"
    assert org.rep.get(f"/v1/accounts/{account['id']}").json() == account
    changed = org.rep.patch(f"/v1/accounts/{account['id']}", json={"legal_name": "T"}, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert org.manager.get("/v1/accounts", params={"q": "taqueria"}).json()["data"][0]["id"] == account["id"]
    assert org.outsider.get(f"/v1/accounts/{account['id']}").status_code == 404
    assert org.rep.delete(f"/v1/accounts/{account['id']}").status_code == 204
    assert org.rep.get(f"/v1/accounts/{account['id']}").status_code == 404


def test_a_verb_answers_without_a_body_when_none_is_wanted(org):
    account = org.rep.make("accounts", name="Minimal")
    answer = org.rep.post(f"/v1/accounts/{account['id']}/activate", headers={"Prefer": "return=minimal"})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (204, b"", '"2"')
    assert answer.headers["preference-applied"] == "return=minimal"


def test_lists_of_names_are_joined_or_repeated(org):
    for name, revenue in (("One", "1"), ("Two", "2"), ("Zero", "1")):
        org.rep.make("accounts", name=name, annual_revenue=revenue)
    joined = {"sort": "annual_revenue,-name", "expand": "owner,parent"}
    repeated = {name: text.split(",") for name, text in joined.items()}
    answers = [org.rep.get("/v1/accounts", params=params).json()["data"] for params in (joined, repeated)]
    assert answers[0] == answers[1]
    assert [row["name"] for row in answers[0]] == ["Zero", "One", "Two"]
    assert answers[0][0]["owner"]["object"] == "principal"
    assert org.rep.get("/v1/accounts", params={"limit": ["1", "2"]}).status_code == 422
