"""The benchmarks, by name: who takes part, what is measured, what is compared."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.benchmark import Benchmark, Comparison, Contestant, Measure
from tests.benchmarks.storage_copies import copies
from tests.benchmarks.workload import Workload

PRECISIONS = ("float32", "mixed_bfloat16")
BATCH_SIZE = 32

RATE = Measure("images_per_second", "images/s")
PROCESS = Measure("process_seconds", "whole process, s")
TRAINING = Measure("training_seconds", "first step to end, s")
ACCURACY = Measure("validation_accuracy", "validation accuracy", 4)


@dataclass(frozen=True)
class Setting:
    """What all benchmarks share.

    Attributes:
        workload: where the data is.
        cores: the two cores that are measured.
        seeds: one repetition for each.
        epochs: of a whole arm.
        torch_python: PyTorch's interpreter.
        torch_problem: why PyTorch cannot be used, or None.
        is_quick: as little as shows that everything works.
    """

    workload: Workload
    cores: tuple[int, int]
    seeds: tuple[int, ...]
    epochs: int
    torch_python: Path
    torch_problem: str | None
    is_quick: bool

    @property
    def short_epochs(self) -> int:
        """Epochs over the short records, the first of which is left out."""
        return 2 if self.is_quick else 4


def _ours(
    setting: Setting,
    name: str,
    records: str,
    epochs: int,
    precision: str,
    workers: int = 1,
    threads: int | None = None,
    batch_size: int = BATCH_SIZE,
    cores: tuple[tuple[int, ...], ...] | None = None,
    recipe: tuple[str, ...] = (),
    **arguments: Any,
) -> Contestant:
    assignments = [
        *recipe,
        f"training.epochs={epochs}",
        f"training.precision={precision}",
        f"training.global_batch_size={batch_size}",
        f"compute.workers={workers}",
        "compute.restarts=0",  # a restart would show as a slow run
        # Absent means all cores that the process may use; the digits ask for one.
        f"compute.threads_per_worker={'null' if threads is None else threads}",
    ]
    experiment = "digits" if records == "digits" else "tutorial"
    source = {"experiment": experiment, "records": setting.workload.records(records)}
    arguments = {**source, "assignments": assignments, **arguments}
    return Contestant(name, "ours", arguments, (f"records {records}",), cores or (setting.cores,))


def _script(setting: Setting) -> Contestant:
    workload = setting.workload
    arguments = {"data_dir": workload.tfds, "image_size": workload.image_size, "epochs": setting.epochs}
    return Contestant("tutorial script", "tutorial_script", arguments, ("published tfds",), (setting.cores,))


def _keras(
    setting: Setting, name: str, images: str, epochs: int, precision: str, is_validated: bool, depth: int = 0
) -> Contestant:
    arguments = {
        "arrays": setting.workload.arrays(images),
        "epochs": epochs,
        "precision": precision,
        "is_validated": is_validated,
        "depth": depth,
    }
    return Contestant(name, "keras_fit", arguments, (f"arrays {images}",), (setting.cores,))


def _torch(
    setting: Setting, name: str, precision: str, is_compiled: bool, images: str = "short", depth: int = 0
) -> Contestant:
    arguments = {
        "arrays": setting.workload.arrays(images),
        "epochs": setting.short_epochs,
        "precision": precision,
        "is_compiled": is_compiled,
        "depth": depth,
    }
    environment = (setting.torch_python, setting.torch_problem)
    return Contestant(name, "torch_step", arguments, (f"arrays {images}",), (setting.cores,), *environment)


def arm(setting: Setting) -> Benchmark:
    """The whole arm, as a user waits for it."""
    script = _script(setting)
    others = [
        _keras(setting, "Keras fit, images in memory", "tutorial", setting.epochs, "float32", True),
        _ours(setting, "optduel float32", "tutorial", setting.epochs, "float32"),
        _ours(setting, "optduel auto", "tutorial", setting.epochs, "auto"),
    ]
    return Benchmark(
        "arm",
        f"tf_flowers, SGD + momentum + L2, batches of 32, {setting.epochs} epochs with validation",
        setting.seeds,
        (script, *others),
        (TRAINING, PROCESS, RATE, ACCURACY),
        tuple(
            Comparison(f"script / {other.name}, {measure.title}", measure.key, script.name, other.name)
            for measure in (TRAINING, PROCESS)
            for other in others
        ),
        (Measure("validation_accuracies", "validation accuracy by epoch, last repetition", 4),),
    )


def accuracy(setting: Setting) -> Benchmark:
    """Whether the speed costs accuracy: the spread over seeds of each."""
    return Benchmark(
        "accuracy",
        f"final validation accuracy over seeds, {setting.epochs} epochs",
        setting.seeds,
        (
            _script(setting),
            _ours(setting, "optduel float32", "tutorial", setting.epochs, "float32"),
            _ours(setting, "optduel auto", "tutorial", setting.epochs, "auto"),
        ),
        (ACCURACY, TRAINING),
    )


def step(setting: Setting) -> Benchmark:
    """The training step on images in memory."""
    contestants, comparisons = [], []
    for precision in PRECISIONS:
        ours = _ours(setting, f"optduel {precision}", "short", setting.short_epochs, precision)
        others = [
            _keras(setting, f"Keras fit {precision}", "short", setting.short_epochs, precision, False),
            _torch(setting, f"PyTorch {precision}", precision, False),
            _torch(setting, f"PyTorch {precision}, torch.compile", precision, True),
        ]
        contestants += [ours, *others]
        comparisons += [
            Comparison(f"{ours.name} / {each.name}", RATE.key, ours.name, each.name) for each in others
        ]
    return Benchmark(
        "step",
        "training steps with batches of 32 from memory, 2 cores",
        setting.seeds,
        tuple(contestants),
        (RATE,),
        tuple(comparisons),
    )


def input_rate(setting: Setting) -> Benchmark:
    """The input pipeline alone."""
    workload = setting.workload
    seconds = 0.2 if setting.is_quick else 5.0

    def pipeline(name: str, kind: str, source: str, need: str) -> Contestant:
        arguments = {"kind": kind, "source": source, "image_size": workload.image_size, "seconds": seconds}
        return Contestant(name, "input_rate", arguments, (need,), (setting.cores,))

    others = [
        pipeline("tfds.load + resize", "tfds", workload.tfds, "published tfds"),
        pipeline("tfds.load + resize, decoded each time", "tfds uncached", workload.tfds, "published tfds"),
        pipeline("image_dataset_from_directory", "directory", workload.photos, "extracted photos"),
    ]
    ours = [
        pipeline("optduel raw", "records", workload.records("tutorial"), "records tutorial"),
        pipeline("optduel jpeg", "records", workload.records("jpeg"), "records jpeg"),
    ]
    training = _ours(setting, "optduel, training (auto)", "tutorial", setting.short_epochs, "auto")
    comparisons = [
        Comparison(f"{each.name} / {other.name}", RATE.key, each.name, other.name)
        for each in ours
        for other in others
    ]
    comparisons += [
        Comparison(f"{each.name}: part of a step's time", RATE.key, training.name, each.name) for each in ours
    ]
    return Benchmark(
        "input",
        "input pipelines alone, batches of 32, the first epoch left out",
        setting.seeds,
        (*others, *ours, training),
        (RATE, Measure("processor_microseconds", "processor time, us/image")),
        tuple(comparisons),
    )


def scaling(setting: Setting) -> Benchmark:
    """Two workers of one core each against one, and what two cores could give at best."""
    first, second = setting.cores
    contestants, comparisons = [], []
    for precision in PRECISIONS:

        def train(what: str, precision: str = precision, **differences: Any) -> Contestant:
            return _ours(
                setting, f"{precision}, {what}", "short", setting.short_epochs, precision, **differences
            )

        apart: dict[str, Any] = {"threads": 1, "cores": ((first,), (second,))}
        together: dict[str, Any] = {"workers": 2, "threads": 1, "pinned": setting.cores}
        one = train("1 worker x 1 core", threads=1, cores=((first,),))
        two = train("2 workers x 1 core, 32 each", batch_size=2 * BATCH_SIZE, **together)
        two_apart = train("2 runs x 1 core apart, 32 each", **apart)
        two_halves = train("2 workers x 1 core, 16 each", **together)
        halves_apart = train("2 runs x 1 core apart, 16 each", batch_size=BATCH_SIZE // 2, **apart)
        others = [two, two_apart, two_halves, halves_apart, train("1 worker x 2 cores", threads=2)]
        contestants += [one, *others]
        comparisons += [
            Comparison(f"{each.name} / twice 1 worker", RATE.key, each.name, one.name, lambda a, b: a / b / 2)
            for each in others
        ]
        # Those apart do what one of two workers does, its update included, without the other.
        comparisons += [
            Comparison(
                f"{pair.name}: exposed communication, ms a step",
                RATE.key,
                pair.name,
                alone.name,
                functools.partial(_exposed_milliseconds, examples),
            )
            for pair, alone, examples in (
                (two, two_apart, 2 * BATCH_SIZE),
                (two_halves, halves_apart, BATCH_SIZE),
            )
        ]
    return Benchmark(
        "scaling",
        "images/s of all workers together, the first epoch left out",
        setting.seeds,
        tuple(contestants),
        (RATE,),
        tuple(comparisons),
    )


def _exposed_milliseconds(examples: int, together: float, apart: float) -> float:
    """By how much a step over so many examples is longer than the same work done apart, at images/s."""
    return 1000 * examples * (1 / together - 1 / apart)


def memory(setting: Setting) -> Benchmark:
    """Whether a worker's memory grows."""
    epochs = 4 if setting.is_quick else 10
    return Benchmark(
        "memory",
        f"resident memory of a worker's training process over {epochs} epochs, float32",
        setting.seeds[:1],
        tuple(
            _ours(setting, records, records, epochs, "float32", memory=True)
            for records in ("digits", "tutorial")
        ),
        (
            Measure("anonymous_megabytes", "own, MB"),
            Measure("file_megabytes", "mapped files, MB"),
            Measure("peak_megabytes", "peak, MB"),
            Measure("growth_megabytes_per_epoch", "growth of own, MB/epoch", 2),
        ),
        series=(
            Measure("anonymous_megabytes_by_epoch", "own, MB, by epoch", 0),
            Measure("file_megabytes_by_epoch", "mapped files, MB, by epoch", 0),
        ),
    )


AUGMENTATIONS = {
    "flip, crop after padding": "{flip: true, crop_padding: 8}",
    "all of one image": (
        "{flip: true, random_resized_crop: {}, brightness: 0.2, contrast: 0.2, saturation: 0.2, cutout: 16}"
    ),
    "all, and mixup": (
        "{flip: true, random_resized_crop: {}, brightness: 0.2, contrast: 0.2, saturation: 0.2, cutout: 16, "
        "mixup: 0.2}"
    ),
}
"""What is measured, as `training.augmentation`; the second may cost a tenth of a step."""


def augmentation(setting: Setting) -> Benchmark:
    """What augmentation costs of a step of the network `cnn` at 96 px."""

    def train(name: str, *recipe: str) -> Contestant:
        # Large enough for a quick run's 32 px, too.
        recipe = ("model={name: cnn}", *recipe)
        return _ours(setting, name, "small", setting.short_epochs, "float32", recipe=recipe)

    plain = train("none")
    others = [train(name, f"training.augmentation={fields}") for name, fields in AUGMENTATIONS.items()]
    return Benchmark(
        "augmentation",
        "training steps of `cnn` with augmentation, 96 px, batches of 32, float32",
        setting.seeds,
        (plain, *others),
        (RATE,),
        tuple(
            Comparison(f"cost of {other.name}: part of a step", RATE.key, plain.name, other.name, _part_more)
            for other in others
        ),
    )


def _part_more(plain: float, other: float) -> float:
    """By which part a step is longer, from two rates."""
    return plain / other - 1


RESNET_DEPTH = 20


def resnet(setting: Setting) -> Benchmark:
    """A residual network: optduel, Keras and PyTorch."""
    contestants, comparisons = [], []
    for precision in PRECISIONS:
        recipe = (f"model={{name: resnet, depth: {RESNET_DEPTH}}}",)
        ours = _ours(setting, f"optduel {precision}", "small", setting.short_epochs, precision, recipe=recipe)
        others = [
            _keras(
                setting,
                f"Keras fit {precision}",
                "small",
                setting.short_epochs,
                precision,
                False,
                RESNET_DEPTH,
            ),
            _torch(setting, f"PyTorch {precision}", precision, False, "small", RESNET_DEPTH),
        ]
        contestants += [ours, *others]
        comparisons += [
            Comparison(f"{ours.name} / {each.name}", RATE.key, ours.name, each.name) for each in others
        ]
    return Benchmark(
        "resnet",
        f"training steps of ResNet-{RESNET_DEPTH} in its form for CIFAR, 96 px, batches of 32, 2 cores",
        setting.seeds,
        tuple(contestants),
        (RATE,),
        tuple(comparisons),
    )


SETTINGS = (10, 20, 50)
"""How many settings one training process tries; the first is what a task of `digits` has."""


def tuning(setting: Setting) -> Benchmark:
    """Settings per minute: many by one training process against one by each."""

    def search(name: str, settings: int, is_tuned: bool) -> Contestant:
        arguments = {
            "records": setting.workload.records("digits"),
            "settings": 2 if setting.is_quick else settings,
            "is_tuned": is_tuned,
        }
        return Contestant(name, "tuning_rate", arguments, ("records digits",), (setting.cores,))

    alone = search("train, a process for each of 4", 4, False)
    together = [search(f"tune, one process for {count}", count, True) for count in SETTINGS]
    rate = Measure("settings_per_minute", "settings/min")
    return Benchmark(
        "tuning",
        "settings of `digits`, whole trials of ten epochs, all starts included",
        setting.seeds,
        (alone, *together),
        (rate,),
        tuple(
            Comparison(f"{each.name} / {alone.name}", rate.key, each.name, alone.name) for each in together
        ),
    )


def prepare(setting: Setting) -> Benchmark:
    """Records of photos, against decoding and resizing alone."""

    photos, image_size = setting.workload.photos, setting.workload.image_size

    def pass_over(name: str, module: str, **arguments: Any) -> Contestant:
        arguments = {"photos": photos, "image_size": image_size, **arguments}
        return Contestant(name, module, arguments, ("extracted photos",), (setting.cores,))

    loops = (
        pass_over("a plain Pillow loop in two processes", "pillow_loop"),
        pass_over("the loop beside optduel's imports", "prepare_rate", kind="loop"),
    )
    ours = pass_over("optduel prepare", "prepare_rate", kind="prepare")
    processor = Measure("processor_microseconds", "processor time, us/image", 0)
    return Benchmark(
        "prepare",
        "a folder of photos made into records of 180 x 180, imports left out, 2 cores",
        setting.seeds,
        (*loops, ours),
        (RATE, processor),
        tuple(
            comparison
            for loop in loops
            for comparison in (
                Comparison(f"{ours.name} / {loop.name}", RATE.key, ours.name, loop.name),
                Comparison(f"{loop.name}: the same by processor time", processor.key, loop.name, ours.name),
            )
        ),
    )


CATALOGUE: dict[str, Callable[[Setting], Benchmark]] = {
    "arm": arm,
    "step": step,
    "input": input_rate,
    "prepare": prepare,
    "scaling": scaling,
    "memory": memory,
    "augmentation": augmentation,
    "resnet": resnet,
    "tuning": tuning,
    "storage": lambda setting: copies(setting.seeds, setting.cores, setting.is_quick),
    "accuracy": accuracy,
}

ON_REQUEST = ("accuracy",)
"""Those that run only when they are named: they take hours."""

WITHOUT_PHOTOS = ("storage", "tuning")
"""Those that need no archive of photos."""
