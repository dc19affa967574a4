"""Opens places for every stage: objects appear whole or not at all.

A place is a path, or a URI with the scheme `gs`, `s3`, `minio` (the store of Kubeflow Pipelines) or `file`.
"""

from optduel.components.storage.bulk import Download, Upload, download, upload
from optduel.components.storage.entry import Entry
from optduel.components.storage.local import as_storage_error, kind_of, resolved
from optduel.components.storage.location import (
    ENDPOINT_VARIABLES,
    Location,
    is_remote,
    join,
    local_path,
    without_credentials,
)
from optduel.components.storage.objects import (
    delete,
    delete_unfinished,
    list_entries,
    publish,
    publishing,
    read,
    read_part,
    stat,
)
from optduel.components.storage.retries import SECONDS_VARIABLE

__all__ = [
    "Download",
    "ENDPOINT_VARIABLES",
    "Entry",
    "Location",
    "SECONDS_VARIABLE",
    "Upload",
    "as_storage_error",
    "delete",
    "delete_unfinished",
    "download",
    "is_remote",
    "join",
    "kind_of",
    "list_entries",
    "local_path",
    "publish",
    "publishing",
    "read",
    "read_part",
    "resolved",
    "stat",
    "upload",
    "without_credentials",
]
