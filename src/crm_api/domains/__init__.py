"""The domains, in the order that `crm_api.catalog` lists them; a domain imports only earlier ones."""
