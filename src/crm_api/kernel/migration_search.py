"""The functions that find text for the search across resources. For migrations; never edited, only added to."""

from alembic import op

from crm_api.kernel.migration import APP

_ARGUMENTS = "(uuid, text[], bigint, bigint)"
_CONDITIONS = {
    # the first three needles are conditions of the index, all of them together
    "seek": "t.search_text LIKE needles[1] AND t.search_text LIKE needles[2] AND t.search_text LIKE needles[3] "
    "AND t.search_text LIKE ALL (needles)",
    "resemble": "needles[1] <% t.search_text AND needles[2] <% t.search_text AND needles[3] <% t.search_text",
}
ALIKE = 0.45
"""How alike two words are at least, by trigrams, of which 1 is the same word."""


def findable(table: str) -> None:
    """`seek_*` finds rows that hold each needle, three patterns or more; `resemble_*` rows with words like three words.

    They run as the owner, as what they compare by is not leakproof; they compare their tenant with the connection's and
    give ids only. Of the first `most` rows found they give the `newest`, each with the number found. The threshold is
    set inside, since only superusers could restore a function that is declared with it.
    """
    for name, condition in _CONDITIONS.items():
        op.execute(
            f"""
            CREATE FUNCTION {name}_{table}(wanted uuid, needles text[], most bigint, newest bigint)
            RETURNS TABLE (id uuid, hits bigint)
            LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100 SET search_path = public, pg_temp
            SET plan_cache_mode = force_custom_plan AS $$
            BEGIN
              IF wanted IS DISTINCT FROM nullif(current_setting('crm.tenant', true), '')::uuid THEN RETURN; END IF;
              PERFORM set_config('pg_trgm.word_similarity_threshold', '{ALIKE}', true);
              RETURN QUERY SELECT m.id, count(*) OVER () FROM (
                SELECT t.id, t.created_at FROM {table} t
                WHERE t.tenant_id = wanted AND t.deleted_at IS NULL AND {condition} LIMIT most) m
              ORDER BY m.created_at DESC, m.id DESC LIMIT newest;
            END $$
            """
        )
        op.execute(f"REVOKE ALL ON FUNCTION {name}_{table}{_ARGUMENTS} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name}_{table}{_ARGUMENTS} TO {APP}")


def unfindable(table: str) -> None:
    """Undoes `findable`."""
    for name in _CONDITIONS:
        op.execute(f"DROP FUNCTION {name}_{table}{_ARGUMENTS}")
