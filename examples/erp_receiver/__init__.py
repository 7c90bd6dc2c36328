"""An ERP's side of the integration: receives webhooks, keeps a mirror of accounts and contacts, writes back."""
