"""The limits of sizes and numbers, each from where it is enforced: what the API tells cannot differ from what holds."""

from crm_api.adapters import typesetting_child
from crm_api.domains.accounts import contact_points
from crm_api.domains.distribution import people, selection, walk
from crm_api.domains.files import upload
from crm_api.domains.identity import issue_key
from crm_api.domains.integrations import changes, source, webhook_endpoint
from crm_api.domains.printing import document_template, press
from crm_api.kernel import (
    batch_requests,
    collections,
    customs,
    edge,
    filter_values,
    filters,
    headers,
    jobs,
    paging,
    query,
    schema,
    tree,
)
from crm_api.settings import Settings


def fixed(settings: Settings) -> dict[str, tuple[int, str]]:
    """Name of each limit -> (the most that is taken, of what)."""
    return {
        "target_bytes": (edge.MAX_TARGET, "bytes of path and query"),
        "header_bytes": (edge.MAX_HEADER, "bytes of a header"),
        "body_bytes": (settings.max_body, "bytes of a body"),
        "file_bytes": (settings.max_file, "bytes of a file"),
        "import_bytes": (settings.max_import, "bytes of the file of an import"),
        "json_depth": (headers.MAX_DEPTH, "levels of JSON"),
        "page_rows": (collections.MAX_LIMIT, "rows of a page"),
        "batch_operations": (batch_requests.MAX_OPERATIONS, "operations of a batch"),
        "batch_items": (batch_requests.MAX_ITEMS, "items of a batch of one collection"),
        "sort_keys": (paging.MAX_SORT_KEYS, "keys of a sort"),
        "filter_leaves": (filters.MAX_LEAVES, "comparisons in a filter"),
        "filter_depth": (filters.MAX_DEPTH, "levels of a filter"),
        "filter_values": (filter_values.MAX_IN, "values of one `in`"),
        "filter_relations": (filters.MAX_STEPS, "relations that a filter follows, lists counted twice"),
        "filter_hops": (filters.MAX_HOPS, "relations in one path of a filter"),
        "custom_fields": (customs.MOST_FIELDS, "custom fields of a resource"),
        "custom_choices": (customs.MOST_CHOICES, "choices of a custom field"),
        "expand_paths": (collections.MAX_PATHS, "expanded paths"),
        "expand_children": (query.MANY, "children of an expanded record"),
        "text_matches": (query.BROAD, "matches of a text query, for who sees them all"),
        "exact_count": (query.COUNT_LIMITS["exact"], "rows counted by `count=exact`"),
        "tree_depth": (tree.MAX_DEPTH, "levels of a tree of records"),
        "live_keys": (issue_key.LIVE_KEYS, "live keys of a principal"),
        "contact_points": (contact_points.MOST, "e-mails, phones or addresses of a record"),
        "external_id_characters": (schema.LONGEST_EXTERNAL_ID, "characters of an external id"),
        "external_ids": (schema.MOST_SOURCES, "external ids of a record"),
        "owned_fields": (source.MOST_OWNED, "fields that a source owns"),
        "webhook_endpoints": (webhook_endpoint.MOST, "webhook endpoints of a tenant"),
        "waiting_readers": (changes.MOST_WAITING, "readers of the change feed that wait, of a process"),
        "waiting_readers_of_tenant": (changes.MOST_OF_TENANT, "readers of the change feed that wait, of a tenant"),
        "uploads": (upload.AT_ONCE, "uploads of files at once, of a process"),
        "uploads_of_tenant": (upload.OF_TENANT, "uploads of files at once, of a tenant"),
        "prints": (press.MOST, "documents in print or waiting, of a process"),
        "prints_of_tenant": (press.OF_TENANT, "documents in print or waiting, of a tenant"),
        "print_seconds": (typesetting_child.CPU_SECONDS, "seconds of processor time of a printed document"),
        "print_memory": (typesetting_child.MEMORY, "bytes of memory of a printed document"),
        "print_bytes": (typesetting_child.LARGEST, "bytes of a printed document"),
        "template_characters": (document_template.MOST_SOURCE, "characters of a document template"),
        "template_logo_bytes": (document_template.LARGEST_LOGO, "bytes of its logo"),
        "waiting_jobs": (jobs.MOST_WAITING, "jobs of a tenant that wait"),
        "waiting_jobs_of_principal": (jobs.MOST_OF_ONE, "jobs of one principal that wait"),
        "bulk_ids": (selection.MOST_IDS, "ids of a verb on many records"),
        "bulk_filter_bytes": (selection.LONGEST_FILTER, "bytes of its filter"),
        "distribution_users": (people.MOST_USERS, "users that records are dealt to"),
        "distribution_preview_rows": (walk.PREVIEW_ROWS, "records that its dry run looks at"),
    }
