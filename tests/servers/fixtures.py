"""Fixtures for tests that need an object store: one server of each kind for all tests of a process."""

import itertools
from collections.abc import Iterator

import pytest

from tests.faults.proxy import FaultProxy, serving
from tests.servers import stores
from tests.servers.places import Place, PlaceOf

FOLDERS = itertools.count()


@pytest.fixture(scope="session")
def fake_gcs_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """fake-gcs-server; set STORAGE_EMULATOR_HOST to this."""
    with stores.fake_gcs(tmp_path_factory.mktemp("fake-gcs")) as url:
        yield url


@pytest.fixture(scope="session")
def seaweedfs_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SeaweedFS; set AWS_ENDPOINT_URL_S3 to this."""
    with stores.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as url:
        yield url


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """moto's S3; set AWS_ENDPOINT_URL_S3 to this."""
    with stores.moto(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture(scope="session")
def gs_proxy(fake_gcs_url: str) -> Iterator[FaultProxy]:
    with serving(fake_gcs_url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def s3_proxy(seaweedfs_url: str) -> Iterator[FaultProxy]:
    with serving(seaweedfs_url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def moto_proxy(moto_url: str) -> Iterator[FaultProxy]:
    with serving(moto_url) as proxy:
        yield proxy


@pytest.fixture
def place_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PlaceOf:
    """Opens a place of a kind: "gs", "s3" (SeaweedFS), "minio" (SeaweedFS) or "moto"."""
    fixtures = {"gs": "gs_proxy", "s3": "s3_proxy", "minio": "s3_proxy", "moto": "moto_proxy"}
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", stores.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stores.SECRET_KEY)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def open_place(kind: str) -> Place:
        proxy = request.getfixturevalue(fixtures[kind])
        proxy.reset()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST" if kind == "gs" else "AWS_ENDPOINT_URL_S3", proxy.url)
        scheme = "s3" if kind == "moto" else kind
        return Place(kind, f"{scheme}://{stores.BUCKET}/{next(FOLDERS)}", proxy)

    return open_place


@pytest.fixture(params=["gs", "s3"])
def place(request: pytest.FixtureRequest, place_of: PlaceOf) -> Place:
    """Each store that faults are injected into."""
    return place_of(request.param)
