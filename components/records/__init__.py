"""Records: TFRecord shards of images and labels, their manifest, the way to a local disk, and a reader."""

from optduel.components.records.integrity import inspect_shards, remove_stale_parts, verify_shards
from optduel.components.records.manifest import (
    MANIFEST_FILE,
    SPLITS,
    Duplicates,
    Manifest,
    Records,
    RecordsSplit,
    Shard,
    Skipped,
    load_manifest,
    load_records,
)
from optduel.components.records.reader import LocalShards, SplitReader
from optduel.components.records.staging import (
    BUDGET_VARIABLE,
    STAGING_VARIABLE,
    StagedRecords,
    check_room,
    stage,
    staging_folder,
)

__all__ = [
    "BUDGET_VARIABLE",
    "MANIFEST_FILE",
    "SPLITS",
    "Duplicates",
    "LocalShards",
    "Manifest",
    "Records",
    "RecordsSplit",
    "Shard",
    "STAGING_VARIABLE",
    "Skipped",
    "SplitReader",
    "StagedRecords",
    "check_room",
    "inspect_shards",
    "load_manifest",
    "load_records",
    "remove_stale_parts",
    "stage",
    "staging_folder",
    "verify_shards",
]
