"""Users whose data is erased, legal holds on users, and links by which a new password ends API keys."""

import sqlalchemy as sa
from alembic import op

from crm_api.kernel.migration import APP

revision = "20261206p"
down_revision = "20261205c"
branch_labels = None
depends_on = None

_FORGET = "forget_credentials(uuid, uuid, bytea[])"
_ERASE = "erase_recorded(uuid, uuid, text, text, bigint, jsonb, text)"
_CHANGES = (
    ('"(contact|lead)"', '"(contact|lead|user|principal)"'),
    ("'\"Erased\"',", "'\"Erased\"', '\"Erased user\"',"),
)
"""Of the function that erases what was recorded: which replies show a person, and what may stand for a name."""


def upgrade():
    op.add_column("password_links", sa.Column("revokes_keys", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("principals", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(
        op.f("ck_principals_erased"), "principals", "erased_at IS NULL OR (email IS NULL AND NOT is_active)"
    )
    op.add_column("legal_holds", sa.Column("principal_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        op.f("fk_legal_holds_principal_id"),
        "legal_holds",
        "principals",
        ["tenant_id", "principal_id"],
        ["tenant_id", "id"],
    )
    op.create_index(
        "ix_legal_holds_principal_id",
        "legal_holds",
        ["tenant_id", "principal_id", "id"],
        postgresql_where=sa.text("principal_id IS NOT NULL"),
    )
    _about("contact_id, lead_id, principal_id")
    for before, after in _CHANGES:
        _rewrite(before, after)
    _forget()


def downgrade():
    op.execute(f"DROP FUNCTION {_FORGET}")
    for before, after in _CHANGES:
        _rewrite(after, before)
    op.execute("DELETE FROM legal_holds WHERE num_nonnulls(contact_id, lead_id) = 0")
    _about("contact_id, lead_id")
    op.drop_index("ix_legal_holds_principal_id", "legal_holds")
    op.drop_constraint(op.f("fk_legal_holds_principal_id"), "legal_holds", type_="foreignkey")
    op.drop_column("legal_holds", "principal_id")
    op.drop_constraint(op.f("ck_principals_erased"), "principals", type_="check")
    op.drop_column("principals", "erased_at")
    op.drop_column("password_links", "revokes_keys")


def _about(columns: str) -> None:
    op.drop_constraint(op.f("ck_legal_holds_person"), "legal_holds", type_="check")
    op.create_check_constraint(op.f("ck_legal_holds_person"), "legal_holds", f"num_nonnulls({columns}) > 0")


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


def _forget() -> None:
    op.execute(
        """
        CREATE FUNCTION forget_credentials(wanted uuid, erasure uuid, subjects bytea[]) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
          person uuid;
        BEGIN
          SELECT e.object_id INTO person FROM erasures e
            WHERE e.tenant_id = wanted AND e.id = erasure AND e.state = 'running' AND e.object_type = 'user'
              AND wanted = nullif(current_setting('crm.tenant', true), '')::uuid;
          IF person IS NULL THEN
            RAISE EXCEPTION 'no such erasure runs';
          END IF;
          DELETE FROM passwords p WHERE p.tenant_id = wanted AND p.principal_id = person;
          DELETE FROM password_links l WHERE l.tenant_id = wanted AND l.principal_id = person;
          DELETE FROM provider_links l WHERE l.tenant_id = wanted AND l.principal_id = person;
          DELETE FROM recovery_codes c USING second_factors f WHERE c.tenant_id = wanted AND f.tenant_id = wanted
            AND f.id = c.factor_id AND f.principal_id = person;
          UPDATE second_factors f SET sealed_secret = '' WHERE f.tenant_id = wanted AND f.principal_id = person;
          DELETE FROM sign_in_attempts a WHERE a.tenant_id = wanted AND a.subject = ANY (subjects);
        END $$
        """
    )
    op.execute(f"REVOKE ALL ON FUNCTION {_FORGET} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {_FORGET} TO {APP}")
