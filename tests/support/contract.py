"""The documents of the contract, derived once for all tests of a process; to be read only."""

from crm_api.catalog import CATALOG
from crm_api.kernel.spec import document
from crm_api.kernel.spec_asyncapi import asyncapi

OPENAPI, ASYNCAPI = document(CATALOG), asyncapi(CATALOG)
