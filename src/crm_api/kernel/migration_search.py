"""The functions that find text beyond a single list. For migrations; never edited once released, only added to."""

from alembic import op

from crm_api.kernel.migration import APP

MOST_WORDS, PATTERNS = 3, 4
"""Words that `resemble_*` compares, and patterns of each of which text must have one."""
_SLIPS = "".join(
    f" AND ({first} IS NULL OR {' OR '.join(f't.search_text LIKE slips[{n}]' for n in numbers)})"
    for numbers in (range(1 + at, 1 + at + PATTERNS) for at in range(0, MOST_WORDS * PATTERNS, PATTERNS))
    for first in [f"slips[{numbers[0]}]"]
)
_FUNCTIONS = {
    # the first three needles are conditions of the index, all of them together
    "seek": (
        "needles text[], most bigint, newest bigint",
        "",
        """
        SELECT t.id, t.created_at, 1 AS likeness FROM {table} t
        WHERE {live} AND t.search_text LIKE needles[1] AND t.search_text LIKE needles[2]
          AND t.search_text LIKE needles[3] AND t.search_text LIKE ALL (needles)
        """,
        "newest",
    ),
    "resemble": (
        "needles text[], slips text[], enough real, most bigint, best bigint",
        "PERFORM set_config('pg_trgm.word_similarity_threshold', enough::text, true);",
        """
        SELECT t.id, t.created_at, found.likeness FROM {table} t, LATERAL (
          SELECT min(word_similarity(n.needle, t.search_text)) AS likeness FROM unnest(needles) AS n (needle)) found
        WHERE {live} AND (slips IS NOT NULL OR needles[1] <% t.search_text)
        """
        + _SLIPS
        + " AND found.likeness >= enough",
        "best",
    ),
}


def findable(table: str) -> None:
    """`seek_*` finds rows that hold each needle, three patterns or more; `resemble_*` rows like each needle.

    They run as the owner, as what they compare by is not leakproof; they compare their tenant with the connection's and
    give ids only, each with the number found: of the first `most` rows the `newest`, or those that are like the needles
    `best`. `slips` are patterns, four for each needle, of which text that is like it has one: by them the index gives
    few rows to compare, where it gives many by the likeness of one needle, which serves without slips. The threshold of
    that is set inside, since only superusers could restore a function that is declared with it.
    """
    for name, (arguments, prepare, rows, most) in _FUNCTIONS.items():
        found = rows.format(table=table, live="t.tenant_id = wanted AND t.deleted_at IS NULL")
        op.execute(
            f"""
            CREATE FUNCTION {name}_{table}(wanted uuid, {arguments}) RETURNS TABLE (id uuid, hits bigint)
            LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100 SET search_path = public, pg_temp
            SET plan_cache_mode = force_custom_plan AS $$
            BEGIN
              IF wanted IS DISTINCT FROM nullif(current_setting('crm.tenant', true), '')::uuid THEN RETURN; END IF;
              {prepare}
              RETURN QUERY SELECT m.id, count(*) OVER () FROM ({found} LIMIT most) m
              ORDER BY m.likeness DESC, m.created_at DESC, m.id DESC LIMIT {most};
            END $$
            """
        )
        op.execute(f"REVOKE ALL ON FUNCTION {name}_{table} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name}_{table} TO {APP}")


def unfindable(table: str) -> None:
    """Undoes `findable`."""
    for name in _FUNCTIONS:
        op.execute(f"DROP FUNCTION {name}_{table}")
