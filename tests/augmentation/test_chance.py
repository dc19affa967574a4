"""What is drawn: uniform, of its own for each stream, and the same on every day."""

import numpy as np
import pytest
import scipy.stats

from optduel.components.augmentation import WIDTH, epoch_draws, epoch_shares


def test_draws_are_uniform_and_independent() -> None:
    draws = epoch_draws(5, 2, 2000)
    assert draws.shape == (2000, WIDTH)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert all(scipy.stats.kstest(column, "uniform").pvalue > 1e-3 for column in draws.T)
    correlations = np.corrcoef(draws.T) - np.eye(WIDTH)
    assert np.abs(correlations).max() < 0.1


def test_seeds_epochs_and_partners_have_draws_of_their_own() -> None:
    drawn = [epoch_draws(*key) for key in ((0, 0, 9), (1, 0, 9), (0, 1, 9), (0, 0, 9, True))]
    firsts = {float(draws[0, 0]) for draws in drawn}
    assert len(firsts) == len(drawn)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 8.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    shares = epoch_shares(3, 1, 3000, alpha)
    assert scipy.stats.kstest(shares, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_draws_of_a_seed_are_golden() -> None:
    """Were they others, every resumed trial would silently be another one."""
    assert epoch_draws(7, 3, 4)[3, :3].tolist() == [
        0.6737200617790222,
        0.008735358715057373,
        0.8271393179893494,
    ]
    np.testing.assert_allclose(
        epoch_shares(7, 3, 4, 0.4), [0.0325027778, 0.00027954971, 0.311283320, 0.777608931], rtol=1e-6
    )
