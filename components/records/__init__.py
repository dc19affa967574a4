"""Records: TFRecord shards of images and labels, their manifest, the way to a local disk, and a reader."""

from optduel.components.records.copies import (
    STAGING_VARIABLE,
    free_room,
    hold,
    make_room,
    staging_folder,
)
from optduel.components.records.description import (
    DESCRIPTION_TEMPLATES,
    RecordsDescription,
    data_cautions,
    describe,
    name_cautions,
)
from optduel.components.records.integrity import inspect_shards, remove_stale_parts, verify_shards
from optduel.components.records.manifest import (
    MANIFEST_FILE,
    SPLITS,
    Duplicates,
    Manifest,
    Originals,
    Records,
    RecordsOfSeeds,
    RecordsSplit,
    Resemblance,
    Resemblances,
    Shard,
    Skipped,
    encode_manifest,
    load_manifest,
    load_records,
)
from optduel.components.records.reader import SplitReader, first_examples
from optduel.components.records.staging import StagedRecords, stage
from optduel.components.records.tfrecord import (
    example_offsets,
    frame,
    frame_image,
    serialize_example,
    sound_examples,
)

__all__ = [
    "DESCRIPTION_TEMPLATES",
    "Duplicates",
    "MANIFEST_FILE",
    "Manifest",
    "Originals",
    "Records",
    "RecordsDescription",
    "RecordsOfSeeds",
    "RecordsSplit",
    "Resemblance",
    "Resemblances",
    "SPLITS",
    "STAGING_VARIABLE",
    "Shard",
    "Skipped",
    "SplitReader",
    "StagedRecords",
    "data_cautions",
    "describe",
    "encode_manifest",
    "example_offsets",
    "first_examples",
    "frame",
    "free_room",
    "frame_image",
    "hold",
    "inspect_shards",
    "load_manifest",
    "load_records",
    "make_room",
    "name_cautions",
    "remove_stale_parts",
    "serialize_example",
    "sound_examples",
    "stage",
    "staging_folder",
    "verify_shards",
]
