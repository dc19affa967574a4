"""A worker with GPUs that TensorFlow cannot use says so instead of training on processors."""

from pathlib import Path

import pytest

from optduel.components.core import SetupError
from optduel.components.train.worker.devices import check_gpus, own_gpus


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """What NVIDIA's driver makes for two GPUs."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("is_cuda_build", "environ", "remedy"),
    [
        (True, {}, "TF_CPP_MAX_VLOG_LEVEL=1"),
        (True, {"CUDA_VISIBLE_DEVICES": "0"}, "TF_CPP_MAX_VLOG_LEVEL=1"),
        (False, {"NVIDIA_VISIBLE_DEVICES": "GPU-7c1d"}, "take the gpu image"),
    ],
    ids=["library-missing", "chosen", "cpu-image"],
)
def test_gpus_that_cannot_be_used_end_the_worker(
    is_cuda_build: bool, environ: dict[str, str], remedy: str, devices: Path
) -> None:
    with pytest.raises(SetupError, match=rf"2 NVIDIA GPU.*{remedy}.*CUDA_VISIBLE_DEVICES=-1"):
        check_gpus(0, is_cuda_build, environ, devices)


@pytest.mark.parametrize(
    ("seen", "is_cuda_build", "environ"),
    [
        (2, True, {}),
        (1, True, {"CUDA_VISIBLE_DEVICES": "0"}),
        (0, True, {"CUDA_VISIBLE_DEVICES": "-1"}),
        (0, True, {"CUDA_VISIBLE_DEVICES": ""}),
        (0, False, {}),
    ],
    ids=["all", "chosen", "hidden", "hidden-by-nothing", "laptop-without-cuda"],
)
def test_what_is_meant_is_let_pass(
    seen: int, is_cuda_build: bool, environ: dict[str, str], devices: Path
) -> None:
    check_gpus(seen, is_cuda_build, environ, devices)


def test_machine_without_gpus_trains_on_processors(tmp_path: Path) -> None:
    check_gpus(0, True, {}, tmp_path)


@pytest.mark.parametrize(
    ("gpus", "workers", "shares"),
    [
        (0, 2, ["", ""]),
        (1, 1, ["a"]),
        (4, 1, ["abcd"]),
        (4, 2, ["ab", "cd"]),
        (2, 2, ["a", "b"]),
        (3, 2, ["a", "b"]),
    ],
)
def test_workers_of_one_machine_share_out_its_gpus_evenly(gpus: int, workers: int, shares: list[str]) -> None:
    found = "abcd"[:gpus]
    assert [own_gpus(found, workers, place) for place in range(workers)] == shares


def test_two_workers_do_not_train_on_one_gpu() -> None:
    with pytest.raises(SetupError, match=r"compute.workers = 2: .* machine with 1 GPU.*fewer workers"):
        own_gpus(["gpu"], 2, 1)
