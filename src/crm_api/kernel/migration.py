"""What Alembic does not see: row security, grants, search functions. For migrations; never edited, only added to."""

from alembic import op

APP = "crm_app"
TENANT_POLICY = "tenant_id = nullif(current_setting('crm.tenant', true), '')::uuid"


def protect(table: str, *, grants: str = "SELECT, INSERT, UPDATE") -> None:
    """Row security by tenant with exactly one policy, and the rights of the server's role."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} FOR ALL USING ({TENANT_POLICY}) WITH CHECK ({TENANT_POLICY})")
    op.execute(f"GRANT {grants} ON {table} TO {APP}")


def searchable(table: str) -> None:
    """A trigram index over the folded text, and the function that uses it.

    Pattern operators are not leakproof, so under row security they cannot use an index. The function runs as the
    owner, compares its tenant with the connection's and gives ids only; the caller's gate is applied to them.
    """
    op.execute(
        f"CREATE INDEX ix_{table}_search_text ON {table} USING gin (search_text gin_trgm_ops) "
        "WITH (gin_pending_list_limit = 256)"  # kB; what waits there is sorted in by a writer, who stands still for it
    )
    op.execute(
        f"""
        CREATE FUNCTION search_{table}(wanted uuid, needles text[], most bigint) RETURNS SETOF uuid
        LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100 SET search_path = public, pg_temp
        SET plan_cache_mode = force_custom_plan AS $$
        BEGIN
          IF wanted IS DISTINCT FROM nullif(current_setting('crm.tenant', true), '')::uuid THEN RETURN; END IF;
          RETURN QUERY SELECT t.id FROM {table} t
            WHERE t.tenant_id = wanted AND t.deleted_at IS NULL AND t.search_text LIKE needles[1]
              AND t.search_text LIKE ALL (needles) LIMIT most;
        END $$
        """
    )
    op.execute(f"REVOKE ALL ON FUNCTION search_{table}(uuid, text[], bigint) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION search_{table}(uuid, text[], bigint) TO {APP}")


def unsearchable(table: str) -> None:
    """Undoes `searchable`."""
    op.execute(f"DROP FUNCTION search_{table}(uuid, text[], bigint)")


def circled(table: str) -> None:
    """Keeps owner, team and territory beside the custom values of a record when those of the record change."""
    before, after = (f"({', '.join(f'{row}.{name}' for name in _CIRCLE)})" for row in ("OLD", "NEW"))
    op.execute(
        f"CREATE TRIGGER circle AFTER UPDATE OF {', '.join(_CIRCLE)} ON {table} FOR EACH ROW "
        f"WHEN ({before} IS DISTINCT FROM {after}) EXECUTE FUNCTION move_custom_values()"
    )


def uncircled(table: str) -> None:
    """Undoes `circled`."""
    op.execute(f"DROP TRIGGER circle ON {table}")


_CIRCLE = ("owner_id", "team_id", "territory_id")
