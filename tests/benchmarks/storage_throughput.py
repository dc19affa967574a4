"""Bulk copies to and from a store on loopback: ours, and those of the client that ours stands on.

The server is fake-gcs-server, which keeps objects in memory, or SeaweedFS, which keeps them on disk. Every
run has one of its own, on the same cores.
"""

import concurrent.futures
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.servers import stores

THREADS = 8

MEGABYTE = 1_000_000

SERVERS = {
    "gs": ("STORAGE_EMULATOR_HOST", stores.fake_gcs),
    "s3": ("AWS_ENDPOINT_URL_S3", stores.seaweedfs),
}
"""Each with the variable that leads a client to it."""


def run(seed: int, folder: Path, store: str, client: str, files: int, megabytes: int) -> dict[str, float]:
    """Copies files to a store and back.

    Args:
        seed: not used.
        folder: for the files and the server's data.
        store: a key of `SERVERS`.
        client: a key of `CLIENTS`.
        files: how many.
        megabytes: of each.

    Returns:
        Megabytes/s up and down, and the peak of this process' memory in MB, which the server is no part of.
    """
    variable, start = SERVERS[store]
    sources, data, copies = (folder / name for name in ("sources", "data", "copies"))
    for place in (sources, data, copies):
        place.mkdir()
    for number in range(files):
        with (sources / f"{number:03d}").open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(MEGABYTE))
    os.environ |= {"AWS_ACCESS_KEY_ID": stores.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": stores.SECRET_KEY}
    paths = sorted(sources.iterdir())
    with start(data) as url:
        os.environ[variable] = url
        up, down = CLIENTS[client](store, paths, [copies / path.name for path in paths])
    for path in paths:
        if (copies / path.name).stat().st_size != path.stat().st_size:
            raise RuntimeError(f"{copies / path.name}: not what was uploaded")
    return {
        "upload_megabytes_per_second": files * megabytes / up,
        "download_megabytes_per_second": files * megabytes / down,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE,
    }


def _ours(store: str, files: Sequence[Path], copies: Sequence[Path]) -> tuple[float, float]:
    from optduel.components.storage import Download, Upload, download, stat, upload

    root = f"{store}://{stores.BUCKET}/files"
    stat(f"{root}/none")  # imports the client
    begun = time.perf_counter()
    uploaded = upload([Upload(file, f"{root}/{file.name}") for file in files], threads=THREADS)
    between = time.perf_counter()
    download(
        [
            Download(entry.uri, copy, entry.bytes, entry.crc32c)
            for entry, copy in zip(uploaded, copies, strict=True)
        ],
        threads=THREADS,
    )
    return between - begun, time.perf_counter() - between


def _google_cloud_storage(store: str, files: Sequence[Path], copies: Sequence[Path]) -> tuple[float, float]:
    """The client's transfer manager, with threads."""
    from google.cloud import storage
    from google.cloud.storage import transfer_manager

    bucket = storage.Client().bucket(stores.BUCKET)
    bucket.blob("none").exists()
    blobs = [bucket.blob(f"files/{file.name}") for file in files]
    options: dict[str, Any] = {"worker_type": transfer_manager.THREAD, "max_workers": THREADS}
    options["raise_exception"] = True
    begun = time.perf_counter()
    transfer_manager.upload_many(
        [(str(file), blob) for file, blob in zip(files, blobs, strict=True)], **options
    )
    between = time.perf_counter()
    transfer_manager.download_many(
        [(blob, str(copy)) for blob, copy in zip(blobs, copies, strict=True)], **options
    )
    return between - begun, time.perf_counter() - between


def _boto3(store: str, files: Sequence[Path], copies: Sequence[Path]) -> tuple[float, float]:
    """The client's managed transfers, one thread a file."""
    import boto3
    from boto3.s3.transfer import TransferConfig

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"], region_name="us-east-1")
    client.list_objects_v2(Bucket=stores.BUCKET)
    config = TransferConfig(max_concurrency=THREADS)
    keys = [f"files/{file.name}" for file in files]

    def send(file: Path, key: str) -> None:
        client.upload_file(str(file), stores.BUCKET, key, Config=config)

    def receive(key: str, copy: Path) -> None:
        client.download_file(stores.BUCKET, key, str(copy), Config=config)

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        begun = time.perf_counter()
        list(pool.map(send, files, keys))
        between = time.perf_counter()
        list(pool.map(receive, keys, copies))
        return between - begun, time.perf_counter() - between


CLIENTS: dict[str, Callable[[str, Sequence[Path], Sequence[Path]], tuple[float, float]]] = {
    "optduel": _ours,
    "google-cloud-storage": _google_cloud_storage,
    "boto3": _boto3,
}
