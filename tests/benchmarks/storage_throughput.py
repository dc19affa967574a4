"""Throughput of bulk copies on loopback: ours against the underlying client's own.

Run by `python -m tests.benchmarks.storage_throughput`. Every contestant runs in a process of its own, on the
same server: fake-gcs-server in memory, SeaweedFS on disk. Rates are medians over the rounds.
"""

import argparse
import concurrent.futures
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers import stores

THREADS = 8

REPOSITORY = Path(__file__).parents[2]


def ours(kind: str, files: list[Path], targets: list[Path]) -> tuple[float, float]:
    from components.core.storage import Download, Upload, download, stat, upload

    root = f"{kind}://{stores.BUCKET}/ours"
    stat(f"{root}/warm")  # imports the client
    places = [f"{root}/{file.name}" for file in files]
    begun = time.perf_counter()
    uploaded = upload(
        [Upload(file, place) for file, place in zip(files, places, strict=True)], threads=THREADS
    )
    between = time.perf_counter()
    download(
        [
            Download(entry.uri, target, entry.bytes, entry.crc32c)
            for entry, target in zip(uploaded, targets, strict=True)
        ],
        threads=THREADS,
    )
    return between - begun, time.perf_counter() - between


def google_cloud_storage(kind: str, files: list[Path], targets: list[Path]) -> tuple[float, float]:
    """The client's transfer manager, with threads."""
    from google.cloud import storage
    from google.cloud.storage import transfer_manager

    bucket = storage.Client().bucket(stores.BUCKET)
    bucket.blob("warm").exists()
    blobs = [bucket.blob(f"theirs/{file.name}") for file in files]
    options: dict[str, Any] = {"worker_type": transfer_manager.THREAD, "max_workers": THREADS}
    options["raise_exception"] = True
    begun = time.perf_counter()
    transfer_manager.upload_many(
        [(str(file), blob) for file, blob in zip(files, blobs, strict=True)], **options
    )
    between = time.perf_counter()
    transfer_manager.download_many(
        [(blob, str(target)) for blob, target in zip(blobs, targets, strict=True)], **options
    )
    return between - begun, time.perf_counter() - between


def boto3(kind: str, files: list[Path], targets: list[Path]) -> tuple[float, float]:
    """The client's managed transfers, one thread a file."""
    import boto3 as library
    from boto3.s3.transfer import TransferConfig

    client = library.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"], region_name="us-east-1")
    client.list_objects_v2(Bucket=stores.BUCKET)
    config = TransferConfig(max_concurrency=THREADS)
    keys = [f"theirs/{file.name}" for file in files]

    def send(file: Path, key: str) -> None:
        client.upload_file(str(file), stores.BUCKET, key, Config=config)

    def receive(key: str, target: Path) -> None:
        client.download_file(stores.BUCKET, key, str(target), Config=config)

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        begun = time.perf_counter()
        list(pool.map(send, files, keys))
        between = time.perf_counter()
        list(pool.map(receive, keys, targets))
        return between - begun, time.perf_counter() - between


Contestant = Callable[[str, list[Path], list[Path]], tuple[float, float]]

CONTESTANTS: dict[str, tuple[Contestant, ...]] = {"gs": (ours, google_cloud_storage), "s3": (ours, boto3)}


def measure(kind: str, name: str, folder: Path) -> dict[str, float]:
    """One contestant's seconds and peak memory, in this process."""
    contestant = next(found for found in CONTESTANTS[kind] if found.__name__ == name)
    files = sorted((folder / "sources").iterdir())
    with tempfile.TemporaryDirectory(dir=folder) as staged:
        up, down = contestant(kind, files, [Path(staged, file.name) for file in files])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"upload": up, "download": down, "peak_mib": peak}


def compare(kind: str, folder: Path, megabytes: int, rounds: int) -> list[dict[str, Any]]:
    names = [contestant.__name__ for contestant in CONTESTANTS[kind]]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            command = [sys.executable, "-m", __spec__.name, "--run", kind, name, str(folder)]
            finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
            results[name].append(json.loads(finished.stdout))
    return [
        {
            "store": kind,
            "contestant": name,
            "upload_mb_per_s": megabytes / statistics.median(run["upload"] for run in results[name]),
            "download_mb_per_s": megabytes / statistics.median(run["download"] for run in results[name]),
            "peak_mib": max(run["peak_mib"] for run in results[name]),
        }
        for name in names
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=64, help="of one file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stores", nargs="+", choices=sorted(CONTESTANTS), default=sorted(CONTESTANTS))
    parser.add_argument("--run", nargs=3, metavar=("KIND", "CONTESTANT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        kind, name, folder = options.run
        sys.stdout.write(json.dumps(measure(kind, name, Path(folder))))
        return 0
    os.environ |= {"AWS_ACCESS_KEY_ID": stores.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": stores.SECRET_KEY}
    servers = {
        "gs": ("STORAGE_EMULATOR_HOST", stores.fake_gcs),
        "s3": ("AWS_ENDPOINT_URL_S3", stores.seaweedfs),
    }
    for kind in options.stores:
        variable, start = servers[kind]
        with (
            tempfile.TemporaryDirectory(prefix="optduel-storage-") as name,
            tempfile.TemporaryDirectory() as data,
        ):
            folder = Path(name)
            (folder / "sources").mkdir()
            for number in range(options.files):
                (folder / "sources" / f"{number}.bin").write_bytes(os.urandom(options.megabytes * 1_000_000))
            with start(Path(data)) as url:
                os.environ[variable] = url
                for row in compare(kind, folder, options.files * options.megabytes, options.rounds):
                    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
