"""The champion on today's test images, as the stage that evaluates leaves it to the gate."""

from optduel.components.champions.champion import Sha256
from optduel.components.core import DataError, ExperimentError
from optduel.components.results import Predictions, read_predictions, run_folder, write_predictions
from optduel.components.settings import Section, decode
from optduel.components.storage import join, publish, read


class Measured(Section):
    """How the champion was measured.

    Attributes:
        number: of the change that it stood at; None where there was no champion.
        model_sha256: of its model; None where there was none.
        run: that trained it.
        classes: that it knows.
        test_images: of today's test split.
        seen_images: of these, that the champion was trained on.
        judged_images: that are left, of classes that it knows.
    """

    number: int | None
    model_sha256: Sha256 | None = None
    run: str | None = None
    classes: tuple[str, ...] = ()
    test_images: int
    seen_images: int = 0
    judged_images: int


def write_measured(root: str, run: str, measured: Measured, predictions: Predictions | None) -> None:
    """Keeps it in the folder of a run; the document last, so that who sees it finds the predictions.

    Args:
        predictions: of the images that are left; labels are indices of the champion's classes, but the
            examples' names are those of today's records. None where there are none.

    Raises:
        StorageError: a place cannot be written.
    """
    if predictions is not None:
        write_predictions(_predictions_file(root, run), predictions)
    publish(_file(root, run), measured.canonical_json().encode())


def read_measured(root: str, run: str) -> tuple[Measured, Predictions | None]:
    """Reads what `write_measured` wrote.

    Raises:
        StorageError: it cannot be read.
        DataError: it is damaged.
    """
    place = _file(root, run)
    try:
        measured = decode(Measured, read(place), place)
    except ExperimentError as error:
        raise DataError(f"{place}: is damaged; run the retraining again: {error}") from error
    if not measured.judged_images or measured.model_sha256 is None:
        return measured, None
    predictions = read_predictions(_predictions_file(root, run))
    if predictions.model_sha256 != measured.model_sha256:
        raise DataError(f"{_predictions_file(root, run)}: is of another model; run the retraining again")
    return measured, predictions


def _file(root: str, run: str) -> str:
    return join(run_folder(root, run), "champion", "measured.json")


def _predictions_file(root: str, run: str) -> str:
    return join(run_folder(root, run), "champion", "predictions.parquet")
