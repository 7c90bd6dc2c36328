"""An erasure takes out what an edit of many records set in the person's, and the person from saved views."""

from alembic import op

revision = "20261209"
down_revision = "20261208b"
branch_labels = None
depends_on = None

_ERASE = "erase_recorded(uuid, uuid, text, text, bigint, jsonb, text)"
_NAMED = "t.parameters -> 'ids' ?| ids::text[]"


def _without(edit: str) -> str:
    """An edit without what it does to personal fields: not with nothing there, since it may be tried again for others."""
    return f"""(
              SELECT jsonb_object_agg(e.key, CASE
                WHEN e.key IN ('changes', 'add', 'remove') AND w.mine IS NOT NULL AND jsonb_typeof(e.value) = 'object'
                THEN (SELECT coalesce(jsonb_object_agg(g.key, g.value), '{{}}'::jsonb) FROM jsonb_each(e.value) g
                  WHERE NOT (w.mine ? g.key OR starts_with(g.key, 'custom.')))
                ELSE e.value END)
              FROM jsonb_each({edit}) e, (SELECT replaced -> CASE {edit} ->> 'resource'
                WHEN 'contacts' THEN 'contact' WHEN 'leads' THEN 'lead' END AS mine) w)"""


_VIEWS = """WHEN 'saved_views' THEN
          SELECT b.place::text INTO upto FROM (
            SELECT t.id AS place FROM saved_views t
            WHERE t.tenant_id = wanted AND t.id > coalesce(since, '00000000-0000-0000-0000-000000000000')::uuid
            ORDER BY t.id LIMIT most) b
          ORDER BY b.place DESC LIMIT 1;
          RETURN QUERY WITH hit AS (
            UPDATE saved_views t SET q = regexp_replace(t.q, pattern, 'erased', 'gi'),
              filter = regexp_replace(t.filter::text, pattern, 'erased', 'gi')::jsonb
            WHERE t.tenant_id = wanted AND t.id > coalesce(since, '00000000-0000-0000-0000-000000000000')::uuid
              AND t.id <= upto::uuid AND (t.q ~* pattern OR t.filter::text ~* pattern) RETURNING 1
          )
          SELECT upto, (SELECT count(*) FROM hit);
        """
_PAST = "t.object_id = ANY (ids) OR "
_FIELD = "ELSE f.value END"
_EDIT = """f.key = 'parameters' AND t.object_type = 'job' AND f.value ? 'resource'
              AND (t.object_id = ANY (ids) OR f.value -> 'ids' ?| ids::text[])"""
_DELIVERED = "d.object_id = ANY (ids)"
_KEPT = "parameters = regexp_replace(t.parameters::text,"
_EDITED = f"""CASE WHEN t.parameters ? 'resource' AND (t.id = ANY (ids) OR {_NAMED})
            THEN {_without("t.parameters")} ELSE t.parameters END"""
_HIT = "concat(t.parameters, t.result, t.problem) ~* pattern"
_NEXT = "WHEN 'outbox' THEN"
_CHANGES = (
    (_FIELD, f"WHEN {_EDIT} THEN {_without('f.value')} {_FIELD}"),
    (f"{_PAST}(t.before", _PAST + "t.after #> '{parameters,ids}' ?| ids::text[] OR (t.before"),
    (f"{_PAST}(t.previous", _PAST + "t.data #> '{parameters,ids}' ?| ids::text[] OR (t.previous"),
    (f"{_PAST}(t.image", _PAST + "t.image #> '{parameters,ids}' ?| ids::text[] OR (t.image"),
    (_DELIVERED, f"({_DELIVERED} OR (d.object_type = 'job' AND t.request ~ known))"),
    (_KEPT, f"parameters = regexp_replace(({_EDITED})::text,"),
    (f"({_HIT})", f"(t.id = ANY (ids) OR {_NAMED} OR {_HIT})"),
    (_NEXT, _VIEWS + _NEXT),
)
"""Of the function that erases what was recorded: jobs that edited the person's records, and saved views."""


def upgrade():
    for before, after in _CHANGES:
        _rewrite(before, after)


def downgrade():
    for before, after in reversed(_CHANGES):
        _rewrite(after, before)


def _rewrite(before: str, after: str) -> None:
    """Replaces a text in the function."""
    op.execute(
        f"""
        DO $rewrite$
        DECLARE
          known text := pg_get_functiondef('{_ERASE}'::regprocedure);
        BEGIN
          IF strpos(known, $text${before}$text$) = 0 THEN
            RAISE EXCEPTION 'erase_recorded is not as it was';
          END IF;
          EXECUTE replace(known, $text${before}$text$, $text${after}$text$);
        END $rewrite$
        """
    )
