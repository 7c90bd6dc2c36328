"""Opportunities, their pipelines, stages, history and contacts; quotas."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from crm_api.kernel.migration import protect, searchable, unsearchable
from crm_api.kernel.migration_search import findable, unfindable

revision = "20261128c"
down_revision = "20261128a"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())


def upgrade():
    op.create_table(
        "pipelines",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("default_mark", sa.Boolean(), nullable=True),
        sa.Column("position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default="true", nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_pipelines")),
    )
    op.create_index("ix_pipelines_created_at", "pipelines", ["tenant_id", "created_at", "id"])
    op.create_index("ix_pipelines_position", "pipelines", ["tenant_id", "position", "id"])
    op.create_index(
        "uq_pipelines_default_mark",
        "pipelines",
        ["tenant_id", "default_mark"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_pipelines_name_key",
        "pipelines",
        ["tenant_id", "name_key"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    protect("pipelines")
    op.create_table(
        "stages",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("probability", sa.BigInteger(), nullable=False),
        sa.Column("forecast_category", sa.Text(), nullable=False),
        sa.Column("max_days", sa.BigInteger(), nullable=True),
        sa.Column("required_fields", JSONB, nullable=False),
        sa.Column("exit_checks", JSONB, nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        sa.CheckConstraint(
            "forecast_category IN ('pipeline', 'best_case', 'commit', 'closed', 'omitted')",
            name=op.f("ck_stages_forecast_category"),
        ),
        sa.CheckConstraint("kind IN ('open', 'won', 'lost')", name=op.f("ck_stages_kind")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "pipeline_id"], ["pipelines.tenant_id", "pipelines.id"], name=op.f("fk_stages_pipeline_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_stages")),
    )
    op.create_index("ix_stages_created_at", "stages", ["tenant_id", "created_at", "id"])
    op.create_index("ix_stages_pipeline_id", "stages", ["tenant_id", "pipeline_id", "id"])
    op.create_index("ix_stages_position", "stages", ["tenant_id", "position", "id"])
    op.create_index(
        "uq_stages_code",
        "stages",
        ["tenant_id", "pipeline_id", "code"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    protect("stages")
    op.create_table(
        "opportunities",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=True),
        sa.Column("pipeline_id", sa.Uuid(), nullable=False),
        sa.Column("stage_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("probability", sa.BigInteger(), nullable=False),
        sa.Column("forecast_category", sa.Text(), nullable=False),
        sa.Column("close_date", sa.Date(), nullable=True),
        sa.Column("next_step", sa.Text(), nullable=True),
        sa.Column("next_step_on", sa.Date(), nullable=True),
        sa.Column("competitors", JSONB, nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("lost_reason", sa.Text(), nullable=True),
        sa.Column("lost_to", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("score_card", JSONB, nullable=False),
        sa.Column("score", sa.BigInteger(), nullable=True),
        sa.Column("tags", JSONB, nullable=False),
        sa.Column("stage_entered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("latest_change", JSONB, nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=True),
        sa.Column("team_id", sa.Uuid(), nullable=True),
        sa.Column("territory_id", sa.Uuid(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        sa.CheckConstraint(
            "forecast_category IN ('pipeline', 'best_case', 'commit', 'closed', 'omitted')",
            name=op.f("ck_opportunities_forecast_category"),
        ),
        sa.CheckConstraint("status IN ('open', 'won', 'lost')", name=op.f("ck_opportunities_status")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "account_id"], ["accounts.tenant_id", "accounts.id"], name=op.f("fk_opportunities_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "contact_id"], ["contacts.tenant_id", "contacts.id"], name=op.f("fk_opportunities_contact_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "owner_id"], ["principals.tenant_id", "principals.id"], name=op.f("fk_opportunities_owner_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "pipeline_id"],
            ["pipelines.tenant_id", "pipelines.id"],
            name=op.f("fk_opportunities_pipeline_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "stage_id"], ["stages.tenant_id", "stages.id"], name=op.f("fk_opportunities_stage_id")
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "team_id"], ["teams.tenant_id", "teams.id"], name=op.f("fk_opportunities_team_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_opportunities")),
    )
    op.create_index("ix_opportunities_account_id", "opportunities", ["tenant_id", "account_id", "id"])
    op.create_index("ix_opportunities_amount", "opportunities", ["tenant_id", "amount", "id"])
    op.create_index("ix_opportunities_close_date", "opportunities", ["tenant_id", "close_date", "id"])
    op.create_index(
        "ix_opportunities_contact_id",
        "opportunities",
        ["tenant_id", "contact_id", "id"],
        postgresql_where=sa.text("contact_id IS NOT NULL"),
    )
    op.create_index("ix_opportunities_created_at", "opportunities", ["tenant_id", "created_at", "id"])
    op.create_index("ix_opportunities_name_key", "opportunities", ["tenant_id", "name_key", "id"])
    op.create_index("ix_opportunities_owner_id", "opportunities", ["tenant_id", "owner_id", "created_at", "id"])
    op.create_index("ix_opportunities_stage_entered_at", "opportunities", ["tenant_id", "stage_entered_at", "id"])
    op.create_index("ix_opportunities_pipeline_id", "opportunities", ["tenant_id", "pipeline_id", "id"])
    op.create_index("ix_opportunities_stage_id", "opportunities", ["tenant_id", "stage_id", "id"])
    op.create_index("ix_opportunities_status", "opportunities", ["tenant_id", "status", "id"])
    op.create_index(
        "ix_opportunities_team_id",
        "opportunities",
        ["tenant_id", "team_id", "id"],
        postgresql_where=sa.text("team_id IS NOT NULL"),
    )
    protect("opportunities")
    op.create_table(
        "stage_changes",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("opportunity_id", sa.Uuid(), nullable=False),
        sa.Column("from_stage_id", sa.Uuid(), nullable=True),
        sa.Column("to_stage_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("close_date", sa.Date(), nullable=True),
        sa.Column("days_in_stage", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "from_stage_id"],
            ["stages.tenant_id", "stages.id"],
            name=op.f("fk_stage_changes_from_stage_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "opportunity_id"],
            ["opportunities.tenant_id", "opportunities.id"],
            name=op.f("fk_stage_changes_opportunity_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "to_stage_id"], ["stages.tenant_id", "stages.id"], name=op.f("fk_stage_changes_to_stage_id")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_stage_changes")),
    )
    op.create_index("ix_stage_changes_at", "stage_changes", ["tenant_id", "at", "id"])
    op.create_index(
        "ix_stage_changes_from_stage_id",
        "stage_changes",
        ["tenant_id", "from_stage_id", "id"],
        postgresql_where=sa.text("from_stage_id IS NOT NULL"),
    )
    op.create_index("ix_stage_changes_opportunity_id", "stage_changes", ["tenant_id", "opportunity_id", "id"])
    op.create_index("ix_stage_changes_to_stage_id", "stage_changes", ["tenant_id", "to_stage_id", "id"])
    protect("stage_changes", grants="SELECT, INSERT")
    op.create_table(
        "opportunity_contacts",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("opportunity_id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("influence", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        sa.CheckConstraint(
            "role IN ('decision_maker', 'influencer', 'user', 'blocker', 'other')",
            name=op.f("ck_opportunity_contacts_role"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "contact_id"],
            ["contacts.tenant_id", "contacts.id"],
            name=op.f("fk_opportunity_contacts_contact_id"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "opportunity_id"],
            ["opportunities.tenant_id", "opportunities.id"],
            name=op.f("fk_opportunity_contacts_opportunity_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_opportunity_contacts")),
    )
    op.create_index("ix_opportunity_contacts_contact_id", "opportunity_contacts", ["tenant_id", "contact_id", "id"])
    op.create_index("ix_opportunity_contacts_created_at", "opportunity_contacts", ["tenant_id", "created_at", "id"])
    op.create_index(
        "uq_opportunity_contacts_opportunity_id",
        "opportunity_contacts",
        ["tenant_id", "opportunity_id", "contact_id"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    protect("opportunity_contacts")
    op.create_table(
        "forecast_quotas",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("period_start", sa.Date(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_via", sa.Text(), server_default="api", nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("custom", JSONB, server_default="{}", nullable=False),
        sa.Column("external_ids", JSONB, server_default="{}", nullable=False),
        sa.CheckConstraint("period IN ('month', 'quarter')", name=op.f("ck_forecast_quotas_period")),
        sa.ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            ["principals.tenant_id", "principals.id"],
            name=op.f("fk_forecast_quotas_principal_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_forecast_quotas")),
    )
    op.create_index("ix_forecast_quotas_created_at", "forecast_quotas", ["tenant_id", "created_at", "id"])
    op.create_index("ix_forecast_quotas_period_start", "forecast_quotas", ["tenant_id", "period_start", "id"])
    op.create_index(
        "uq_forecast_quotas_principal_id",
        "forecast_quotas",
        ["tenant_id", "principal_id", "period", "period_start", "currency"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    protect("forecast_quotas")
    searchable("opportunities")
    findable("opportunities")


def downgrade():
    unfindable("opportunities")
    unsearchable("opportunities")
    for table in ("forecast_quotas", "opportunity_contacts", "stage_changes", "opportunities", "stages", "pipelines"):
        op.drop_table(table)
