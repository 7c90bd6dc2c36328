"""What is written comes back the same everywhere; what the contract does not know is refused and not done."""

import orjson
import pytest

from crm_api.kernel.schema import nullable
from tests.support.asking import code, each, fault
from tests.support.customs import customs, named, setting, value_of
from tests.support.examples import AT_LEAST, EITHER

JSON = {"content-type": "application/json"}


@each("create", "get", "list")
def test_created_read_and_listed_are_equal(lab, resource):
    body = lab.examples.body(resource, 1)
    answer = lab.admin.post(f"/v1/{resource.plural}", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    path = f"/v1/{resource.plural}/{made['id']}"
    assert answer.headers["location"] == path
    assert answer.headers["etag"] == '"1"'
    assert (made["object"], made["version"], made["redacted"]) == (resource.singular, 1, [])
    assert list(made)
    assert set(made) == set(resource.output.model_fields)
    resource.output.model_validate_json(answer.content)
    got = lab.admin.get(path)
    assert got.json() == made
    assert got.headers["etag"] == '"1"'
    assert next(row for row in lab.admin.all(f"/v1/{resource.plural}", limit=200) if row["id"] == made["id"]) == made
    assert lab.admin.head(path).headers["etag"] == '"1"'
    derived = set(resource.derive)
    for name, value in named(body).items():
        parts = value if isinstance(value, list) else [value]
        if name not in derived and not any(isinstance(part, dict) for part in parts):
            assert value_of(made, name) == value, name
    assert customs(resource).keys() <= named(body).keys()


@each("create", "get")
def test_client_may_choose_the_id_once(lab, resource, unchanged):
    from crm_api.kernel.context import new_id

    chosen = str(new_id())
    assert lab.examples.make(resource, 2, given={"id": chosen})["id"] == chosen
    again = lab.examples.body(resource, 2)
    with unchanged(lab):
        assert code(lab.admin.post(f"/v1/{resource.plural}", json={**again, "id": chosen})) == (409, "duplicate")


@each("create", "update")
def test_each_field_can_be_changed_alone_and_null_clears_it(lab, resource):
    made = lab.examples.make(resource, 1)
    path = f"/v1/{resource.plural}/{made['id']}"
    other = lab.examples.body(resource, 3)
    version = 1
    own = customs(resource)
    for name, value in named(other).items():
        if value == value_of(made, name) or (isinstance(value, (list, dict)) and name not in own):
            continue
        if name in resource.once:
            assert fault(lab.admin.patch(path, json={name: value})) == [(f"/{name}", "read_only_field")]
            continue
        answer = lab.admin.patch(path, json=setting(name, value))
        version += 1
        assert answer.status_code == 200, (name, answer.text)
        assert value_of(answer.json(), name) == value
        assert answer.json()["version"] == version
        assert lab.admin.get(path).json() == answer.json()
        may_be_null = name in own or nullable(resource.create.model_fields[name].annotation)
        if may_be_null and (resource.plural, name) not in EITHER:
            version += 1
            assert value_of(lab.admin.patch(path, json=setting(name, None)).json(), name) is None
            assert lab.admin.get(path).json()["version"] == version
            if name in AT_LEAST.get(resource.plural, ()):  # the other may be cleared, too
                version += 1
                assert lab.admin.patch(path, json={name: value}).json()["version"] == version


@each("create")
def test_unknown_and_server_set_fields_are_refused_and_nothing_is_written(lab, resource, unchanged):
    body = lab.examples.body(resource, 1)
    made = lab.examples.make(resource, 1)
    path = f"/v1/{resource.plural}/{made['id']}"
    model = set(map(str, resource.table.c.keys()))
    strange = sorted(
        (model | set(resource.output.model_fields) | {"nonsense", "__class__"}) - set(resource.create.model_fields)
    )
    with unchanged(lab):
        for name in strange:
            expected = "read_only_field" if name in resource.output.model_fields else "unknown_field"
            for value in (None, "x", 1, True, made.get(name)):
                answer = lab.admin.post(f"/v1/{resource.plural}", json={**body, name: value})
                assert answer.status_code == 422, (name, answer.text)
                assert (f"/{name}", expected) in fault(answer)
            if resource.update:
                answer = lab.admin.patch(path, json={name: made.get(name)})
                assert answer.status_code == 422, (name, answer.text)
                assert fault(answer) == [(f"/{name}", expected)]
        if resource.update:
            assert lab.admin.patch(path, json={"id": made["id"]}).status_code == 422


@each("create")
def test_null_is_refused_where_it_is_no_value(lab, resource, unchanged):
    body = lab.examples.body(resource, 1)
    made = lab.examples.make(resource, 1)
    with unchanged(lab):
        for name, info in resource.create.model_fields.items():
            if nullable(info.annotation):
                continue
            assert code(lab.admin.post(f"/v1/{resource.plural}", json={**body, name: None})) == (422, "invalid"), name
            if resource.update:
                answer = lab.admin.patch(f"/v1/{resource.plural}/{made['id']}", json={name: None})
                assert code(answer) == (422, "invalid"), name
        for name, info in resource.create.model_fields.items():
            if info.is_required():
                short = {key: value for key, value in body.items() if key != name}
                answer = lab.admin.post(f"/v1/{resource.plural}", json=short)
                assert (f"/{name}", "required") in fault(answer)


@each("create")
def test_bodies_that_are_not_one_json_object_are_refused(lab, resource, unchanged):
    body = orjson.dumps(lab.examples.body(resource, 1))
    path = f"/v1/{resource.plural}"
    first = next(iter(resource.create.model_fields))
    twice = body[:-1] + b',"' + first.encode() + b'":"a","' + first.encode() + b'":"b"}'
    with unchanged(lab):
        assert code(lab.admin.post(path, content=twice, headers=JSON)) == (400, "malformed_json")
        assert code(lab.admin.post(path, content=body[:-1], headers=JSON)) == (400, "malformed_json")
        for media in ("text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data"):
            answer = lab.admin.post(path, content=body, headers={"content-type": media})
            assert code(answer) == (415, "unsupported_media_type")
        for odd in (b"[]", b'"x"', b"1", b"null", b""):
            assert lab.admin.post(path, content=odd, headers=JSON).status_code in (400, 422), odd


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
@each()
def test_unknown_query_parameters_are_refused_on_every_operation(lab, resource, unchanged, method):
    from crm_api.kernel.router import operations

    with unchanged(lab):
        for operation in operations(resource):
            if operation.method != method:
                continue
            path = operation.path.replace("{id}", "01990000-0000-7000-8000-000000000000")
            answer = lab.admin.request(method, path, params={"nonsense": "1"}, json={} if method != "GET" else None)
            assert code(answer) == (422, "invalid"), operation.operation_id
            assert fault(answer) == [("nonsense", "unknown_parameter")]
