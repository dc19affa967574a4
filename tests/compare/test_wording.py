import pytest

from optduel.components.compare.wording import differences_in_words


@pytest.mark.parametrize(
    ("metric", "differences", "texts"),
    [
        ("accuracy", [0.008, 0.004, 0.013], ["0.80", "0.40", "1.30"]),
        ("accuracy", [0.123, -0.0001, 0.2], ["12.3", "0.0", "20.0"]),
        ("accuracy", [0.0, 0.0, 0.0], ["0.0", "0.0", "0.0"]),
        ("accuracy", [1e-9, -1e-9, 1e-9], ["0.00000", "0.00000", "0.00000"]),
        ("cross_entropy", [-0.0123, -0.02, -0.001], ["-0.012", "-0.020", "-0.001"]),
        ("cross_entropy", [2.5, 1.25, 3.0], ["2.50", "1.25", "3.00"]),
    ],
)
def test_differences_share_decimals(metric: str, differences: list[float], texts: list[str]) -> None:
    assert differences_in_words(metric, differences)[0] == texts
