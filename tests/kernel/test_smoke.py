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
