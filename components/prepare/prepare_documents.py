"""What the prepare stage hands on: the records' document, their card and their counts, as files."""

from pathlib import Path

from optduel.components.prepare.card import records_card
from optduel.components.prepare.prepare import prepare_records
from optduel.components.records.manifest import Records
from optduel.components.settings.authoring import decode
from optduel.components.settings.experiment import Data, canonical_json
from optduel.components.storage.objects import publish


def prepare_documents(data: str, root: str, records: Path, card: Path, metrics: Path) -> dict[str, float]:
    """Prepares records and writes what later stages and people read of them.

    Args:
        data: canonical JSON of the experiment's data section.
        root: the folder for data sets, a path or a URI.
        records: where the `Records` document goes, as canonical JSON.
        card: where the card goes, as HTML.
        metrics: where the counts go, as JSON; a local run of KFP caches no stage that lacks one of its files.

    Returns:
        The counts.

    Raises:
        ExperimentError: the section breaks a rule, or names something that does not exist.
        DataError: the images cannot be used.
        StorageError: a place cannot be written.
    """
    prepared = prepare_records(decode(Data, data, "data"), root)
    counts = _counts(prepared)
    publish(records, prepared.canonical_json().encode())
    publish(card, records_card(prepared).encode())
    publish(metrics, canonical_json(counts).encode())
    return counts


def _counts(records: Records) -> dict[str, float]:
    manifest = records.manifest
    return {
        "classes": float(len(manifest.classes)),
        "bytes": float(sum(shard.bytes for split in manifest.splits.values() for shard in split.shards)),
        "duplicates": float(manifest.duplicates.images),
        "left_out": float(len(manifest.skipped)),
        **{f"{name}_images": float(split.records) for name, split in manifest.splits.items()},
    }
