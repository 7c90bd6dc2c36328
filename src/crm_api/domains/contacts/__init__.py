"""Contacts and the accounts they belong to."""

from crm_api.domains.contacts.account_contact import ACCOUNT_CONTACTS
from crm_api.domains.contacts.contact import CONTACTS
from crm_api.domains.identity.default_roles import sales_roles
from crm_api.kernel.domain import Domain

DOMAIN = Domain("contacts", resources=(CONTACTS, ACCOUNT_CONTACTS), roles=sales_roles("contacts", "account_contacts"))
