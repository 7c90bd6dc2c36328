"""An API-first, headless CRM backend on PostgreSQL 18."""

__version__ = "0.1.0"
