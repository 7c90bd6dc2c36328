"""`python -m crm_api` is the `crm-api` command."""

from crm_api.cli import app

app()
