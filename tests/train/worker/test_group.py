"""A worker learns its group from its environment, or refuses to train."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optduel.components.core import SetupError
from optduel.components.train.worker.group import Group, group_from_environment

THREE = "trial-0.trial:2222,10.0.0.2:2222,[::1]:80"


def group(peers: str | None, index: str | None, workers: int) -> Group:
    told = {"OPTDUEL_PEERS": peers, "OPTDUEL_WORKER_INDEX": index}
    return group_from_environment({name: value for name, value in told.items() if value is not None}, workers)


@given(index=st.integers(0, 2))
def test_a_whole_group_is_what_tensorflow_is_told(index: int) -> None:
    told = group(THREE, str(index), 3).tf_config()
    assert told is not None
    assert json.loads(told) == {
        "cluster": {"worker": ["trial-0.trial:2222", "10.0.0.2:2222", "[::1]:80"]},
        "task": {"type": "worker", "index": index},
    }


@pytest.mark.parametrize(("peers", "index"), [(None, None), (None, "0"), ("127.0.0.1:2222", "0")])
def test_one_worker_is_no_group(peers: str | None, index: str | None) -> None:
    assert group(peers, index, 1) == Group()
    assert group(peers, index, 1).tf_config() is None


@pytest.mark.parametrize(
    ("peers", "index", "workers", "message"),
    [
        (None, "0", 2, "OPTDUEL_PEERS is not set: compute.workers = 2"),
        ("", "0", 2, "OPTDUEL_PEERS is not set: compute.workers = 2"),
        ("a:1", "0", 2, "OPTDUEL_PEERS = a:1: names 1, but compute.workers = 2"),
        ("a:1,b:1", "0", 1, "OPTDUEL_PEERS = a:1,b:1: names 2, but compute.workers = 1"),
        ("a:1,a:1", "0", 2, "OPTDUEL_PEERS = a:1,a:1: names a:1 twice"),
        ("a:1,b", "0", 2, "OPTDUEL_PEERS = a:1,b: b is not host:port"),
        ("a:1,", "0", 2, "OPTDUEL_PEERS = a:1,: an empty entry is not host:port"),
        ("a:1, b:1", "0", 2, "OPTDUEL_PEERS = a:1, b:1:  b:1 is not host:port"),
        ("a:1,b:0", "0", 2, "OPTDUEL_PEERS = a:1,b:0: b:0 is not host:port"),
        ("a:1,b:65536", "0", 2, "OPTDUEL_PEERS = a:1,b:65536: b:65536 is not host:port"),
        ("a:1,b:²", "0", 2, "OPTDUEL_PEERS = a:1,b:²: b:² is not host:port"),
        ("a:1,b:1", None, 2, "OPTDUEL_WORKER_INDEX = not set: must be 0 to 1"),
        ("a:1,b:1", "2", 2, "OPTDUEL_WORKER_INDEX = 2: must be 0 to 1"),
        ("a:1,b:1", "-1", 2, "OPTDUEL_WORKER_INDEX = -1: must be 0 to 1"),
        ("a:1,b:1", "one", 2, "OPTDUEL_WORKER_INDEX = one: must be 0 to 1"),
    ],
)
def test_a_contradiction_is_named_with_variable_and_value(
    peers: str | None, index: str | None, workers: int, message: str
) -> None:
    with pytest.raises(SetupError) as raised:
        group(peers, index, workers)
    assert str(raised.value) == message or str(raised.value).startswith(message)


def test_workers_of_one_host_share_it() -> None:
    assert group("a:1,b:1,a:2", "0", 3).workers_on_this_host == 2
    assert group("a:1,b:1,a:2", "1", 3).workers_on_this_host == 1
    places = [group("a:1,b:1,a:2", str(index), 3).place_on_this_host for index in range(3)]
    assert places == [0, 0, 1]
    assert (Group().workers_on_this_host, Group().place_on_this_host) == (1, 0)
    assert group("a:1,b:1,a:2,[::1]:80", "0", 4).hosts == ("a", "b", "::1")
