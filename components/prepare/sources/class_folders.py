"""The rules of a folder with a sub-folder of images for each class, `path/class/image.jpg`."""

from collections.abc import Sequence

from optduel.components.core.errors import DataError
from optduel.components.prepare.image import image_suffixes, is_image_name
from optduel.components.prepare.sources.source import Example
from optduel.components.records.manifest import Skipped

# Reasons are part of a data set's fingerprint: the same folder has one, whatever store it lies in.
UNPRINTABLE = "has a name with unprintable characters: rename it"
BESIDE = "lies beside the class folders: move it into the folder of its class"
WITHIN = "is a folder inside a class folder: move its images up, or make it a class"


def is_hidden(name: str) -> bool:
    """Whether files of this name are ignored."""
    return name.startswith(".")


def reason_against_file(name: str) -> str | None:
    """Why a file in a class folder cannot be an image, from its name."""
    if not name.isprintable():
        return UNPRINTABLE
    if not is_image_name(name):
        return f"is not an image file: their names end in {image_suffixes()}"
    return None


def problem(name: str, reason: str) -> Skipped:
    """What lies among the images and cannot be one."""
    # Undecodable bytes of a name could be written neither to the manifest nor to a terminal.
    return Skipped(image=name if name.isprintable() else ascii(name), reason=reason)


def refuse_unusable(
    where: str, classes: Sequence[str], examples: Sequence[Example], problems: Sequence[Skipped]
) -> None:
    """Refuses a folder that no classifier can be trained on.

    Args:
        where: the folder, as messages name it.
        problems: what lies in it and cannot be an image.

    Raises:
        DataError: no class folders, only one, or one without images.
    """
    if not classes:
        raise DataError(
            f"{where}: has no class folders; put the images of each class into a folder of its own"
        )
    if len(classes) == 1:
        raise DataError(f"{where}: has one class folder, {classes[0]}; a classifier needs two or more")
    present = {example.label for example in examples}
    empty = [name for label, name in enumerate(classes) if label not in present]
    if empty:
        remedy = "add images or remove the folder"
        lines = [_without_images(name, problems) for name in empty]
        raise DataError("\n".join([f"{where}: {len(empty)} class(es) without images; {remedy}", *lines]))


def _without_images(name: str, problems: Sequence[Skipped]) -> str:
    within = [problem for problem in problems if problem.image.startswith(f"{name}/")]
    if not within:
        return name
    return f"{name}: has {len(within)} that cannot be read, {within[0].image}: {within[0].reason}"


def data_set_name(folder: str) -> str:
    """Lower case letters, digits and hyphens, of any folder's name."""
    words = "".join(
        character if character.isascii() and character.isalnum() else " " for character in folder.lower()
    )
    return "-".join(words.split())[:40].strip("-") or "images"
