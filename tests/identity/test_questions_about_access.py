"""`/v1/me` and `/v1/access/explain`, asked wrongly."""

import pytest


def test_explain_about_nobody_is_the_callers_fault_not_a_bad_credential(org):
    account = org.rep.make("accounts", name="Asked about")
    params = {"resource": "accounts", "id": account["id"], "principal": "019aa1d0-0000-7000-8000-00000000ffff"}
    answer = org.admin.get("/v1/access/explain", params=params)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    org.admin.patch(f"/v1/users/{org.reader.id}", json={"is_active": False})
    answer = org.admin.get("/v1/access/explain", params={**params, "principal": org.reader.id})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/v1/me", "/v1/access/explain?resource=accounts&id={id}"])
def test_unknown_parameters_are_refused(org, path):
    account = org.rep.make("accounts", name="Asked about")
    address = path.format(id=account["id"])
    assert org.rep.get(address).status_code == 200
    answer = org.rep.get(address + ("&" if "?" in address else "?") + "bogus=1")
    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        [{"parameter": "bogus", "code": "unknown_parameter", "detail": "There is no parameter bogus here."}],
    )
