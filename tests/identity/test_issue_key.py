"""Keys: what they may be bounded by."""


def test_a_scope_of_no_domain_is_refused_and_no_key_made(org):
    path = f"/v1/users/{org.rep.id}/issue_key"
    answer = org.admin.post(path, json={"name": "typo", "scopes": ["accounts:read", "acounts:read"]})
    assert answer.status_code == 422
    assert [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]] == [("/scopes/1", "unknown_scope")]
    assert [key["name"] for key in org.admin.all("/v1/api_keys", principal_id=org.rep.id)] == ["rep"]
    assert org.admin.post(path, json={"name": "right", "scopes": ["identity:admin"]}).status_code == 201
