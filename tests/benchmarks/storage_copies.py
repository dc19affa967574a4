"""The benchmark of bulk copies to stores: few large files and many small ones, against each client's own."""

from tests.benchmarks.benchmark import Benchmark, Comparison, Contestant, Measure

CLIENTS = {"gs": "google-cloud-storage", "s3": "boto3"}
"""The client that ours is compared with, by store."""


def copies(seeds: tuple[int, ...], cores: tuple[int, int], is_quick: bool) -> Benchmark:
    """The benchmark.

    Args:
        seeds: one repetition for each.
        cores: that client and server share.
        is_quick: as little as shows that everything works.
    """
    rates = [Measure(f"{way}_megabytes_per_second", f"{way}, MB/s", 0) for way in ("upload", "download")]
    contestants, comparisons = [], []
    for store, client in CLIENTS.items():
        for files, megabytes in ((2, 2), (4, 1)) if is_quick else ((8, 64), (256, 1)):
            ours, theirs = (
                Contestant(
                    f"{name} {store}, {files} x {megabytes} MB",
                    "storage_throughput",
                    {"store": store, "client": name, "files": files, "megabytes": megabytes},
                    (),
                    (cores,),
                )
                for name in ("optduel", client)
            )
            contestants += [ours, theirs]
            comparisons += [
                Comparison(f"{ours.name} / {client}, {rate.title}", rate.key, ours.name, theirs.name)
                for rate in rates
            ]
    return Benchmark(
        "storage",
        "bulk copies to and from a store on loopback, 8 threads, client and server on the same 2 cores",
        seeds,
        tuple(contestants),
        (*rates, Measure("peak_megabytes", "peak memory, MB", 0)),
        tuple(comparisons),
    )
