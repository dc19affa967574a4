"""Writers of records in processes of their own, forked from one that has all imports."""

import multiprocessing
import os
from multiprocessing.context import ForkServerProcess

from optduel.components.prepare.prepare import prepare_records
from optduel.components.settings import Data, decode

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "sklearn.datasets",
        "optduel.components.storage.gcs",
        "optduel.components.storage.s3",
        "tests.prepare.stores.writer_process",
    ]
)


def start(data: Data, root: str) -> ForkServerProcess:
    """Starts `prepare_records`; its exit code is 0 if that returned."""
    process = CONTEXT.Process(target=write, args=(data.canonical_json(), root, dict(os.environ)))
    process.start()
    return process


def write(data: str, root: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    prepare_records(decode(Data, data, "data"), root)
