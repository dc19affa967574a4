"""The stage as Kubeflow Pipelines runs it."""

from pathlib import Path

import pytest
from kfp import dsl

from optduel.components.report.component import report as report_component
from optduel.components.results import indexed_runs, write_document
from optduel.components.storage import publish


def run(study, folder: Path, experiment: str) -> dict[str, Path]:
    write_document(folder / "records", study.records)
    write_document(folder / "collected", study.trials)
    write_document(folder / "comparison", study.comparison)
    kinds = {
        "records": dsl.Dataset,
        "collected": dsl.Dataset,
        "comparison": dsl.Dataset,
        "page": dsl.HTML,
        "plots": dsl.Artifact,
        "summary": dsl.Markdown,
    }
    artifacts = {name: kind(name=name, uri=str(folder / name)) for name, kind in kinds.items()}
    report_component.python_func(
        experiment=experiment, root=str(folder / "root"), run="digits-1", **artifacts
    )
    return {name: Path(artifact.path) for name, artifact in artifacts.items()}


def test_documents_become_page_figures_and_summary(study, report, tmp_path: Path) -> None:
    paths = run(study, tmp_path, study.experiment.canonical_json())
    # The same bytes as from memory, in a rendering of its own.
    assert paths["page"].read_text(encoding="utf-8") == report.html
    assert paths["summary"].read_text(encoding="utf-8") == report.summary
    assert {file.name: file.read_bytes() for file in paths["plots"].iterdir()} == report.figures
    assert {"losses.png", "losses.svg", "accuracy.png", "accuracy.svg"} <= report.figures.keys()
    assert (tmp_path / "root" / "runs" / "digits-1" / "history.parquet").is_file()
    assert indexed_runs(str(tmp_path / "root")) == ["digits-1"]


def test_wrong_experiment_ends_the_task_and_leaves_an_earlier_page(
    study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path / "page", b"earlier")
    with pytest.raises(SystemExit) as raised:
        run(study, tmp_path, '{"name": "digits"}')
    assert raised.value.code == 64
    assert "title: is required" in capsys.readouterr().err
    assert (tmp_path / "page").read_bytes() == b"earlier"
    assert indexed_runs(str(tmp_path / "root")) == []
