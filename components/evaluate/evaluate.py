"""The evaluate stage's one call: from a trained model to the trial's place in the comparison."""

from pathlib import Path

from optduel.components.core.errors import DataError
from optduel.components.core.narration import say
from optduel.components.evaluate.metrics import evaluate_probabilities
from optduel.components.evaluate.model import load_model
from optduel.components.evaluate.predict import predict
from optduel.components.records.manifest import load_records
from optduel.components.results.documents import TrainingRecord, Trial, read_document
from optduel.components.results.history import read_history
from optduel.components.storage.location import join


def evaluate_trial(records_file: Path, model_folder: str, history_file: Path, confidence: float) -> Trial:
    """Evaluates a trained model on the data set's final split.

    Args:
        records_file: the Records document.
        model_folder: what the train stage wrote, a path or a URI: `model.keras` and `training.json`.
        history_file: the trial's history.
        confidence: level of the intervals.

    Raises:
        DataError: the model file is not the one that was trained, or not on these records.
        StorageError: a file cannot be read.
    """
    records = load_records(records_file)
    training = read_document(join(model_folder, "training.json"), TrainingRecord)
    model_file = join(model_folder, "model.keras")
    if records.manifest.fingerprint != training.data_fingerprint:
        raise DataError(f"{model_file}: was trained on records {training.data_fingerprint}, not on these")
    split = records.manifest.final_split
    model = load_model(model_file, training.model_sha256, records.manifest)
    probabilities, labels = predict(model, records, split)
    scores = evaluate_probabilities(probabilities, labels, records.manifest.classes, confidence)
    evaluation = scores.as_evaluation(training.arm, training.seed, split, training.model_sha256)
    say(
        f"evaluate {training.arm}, seed {training.seed}: {split} accuracy {evaluation.accuracy.value:.1%}, "
        f"cross-entropy {evaluation.cross_entropy.value:.4f}"
    )
    return Trial(training=training, history=read_history(history_file), evaluation=evaluation)
