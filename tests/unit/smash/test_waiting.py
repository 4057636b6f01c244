"""Laws of operational time: the unit exponential, a fitted mixture, and when ETAS gets one of its own."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.smash import run_baselines, waiting
from pipeline.smash.baselines import Baselines
from pipeline.smash.events import finished
from pipeline.smash.kde import Background


def law(rows):
    return waiting.law_of(torch.tensor(rows, dtype=torch.float64))


def test_the_unit_law_is_the_exponential_one():
    z = torch.tensor([0.01, 0.5, 3.0], dtype=torch.float64)
    unit = law(waiting.unit())
    torch.testing.assert_close(unit.log_density(z), -z)
    torch.testing.assert_close(unit.log_survival(z), -z)
    assert unit.quantile(np.array([0.1, 0.5, 0.99])) == pytest.approx(-np.log([0.9, 0.5, 0.01]), rel=1e-4)


def test_a_fitted_law_is_as_likely_as_the_true_one():
    """Weibull law of shape 2, scale 1.2: its entropy is known, 1 + ln(scale / shape) + gamma (1 - 1 / shape)."""
    z = 1.2 * np.random.default_rng(0).weibull(2.0, 20_000)
    rows = waiting.fit(z[:10_000], np.ones(10_000), np.zeros(3), np.ones(3))
    found = float(law(rows).log_density(torch.as_tensor(z[10_000:])).mean())
    assert found == pytest.approx(-(1 + np.log(1.2 / 2) + 0.57722 * 0.5), abs=0.02)
    assert float(law(rows).log_density(torch.as_tensor(z)).mean()) > -z.mean() + 0.2  # the exponential law's


def test_more_components_are_the_same_law():
    rows = [[0.3, -0.2, 0.1], [0.5, 0.0, -0.4], [0.2, -0.3, 0.6]]
    z = torch.tensor([0.02, 0.7, 2.5], dtype=torch.float64)
    for components in (3, 4, 7):
        other = waiting.law_of(waiting.spread(rows, components).double())
        torch.testing.assert_close(other.log_density(z), law(rows).log_density(z), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(other.log_survival(z), law(rows).log_survival(z), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("regular", [False, True])
def test_etas_gets_a_law_of_its_own_where_gaps_are_regular(make, regular):
    """Poisson events keep the unit exponential law; a clock with little noise doesn't, and its likelihood rises."""
    cat = make(sequences=(20, 6, 6))
    if regular:
        rng = np.random.default_rng(0)
        for s in range(len(cat.split)):
            part = cat.rows(s)
            n = part.stop - part.start
            cat.t[part] = (np.arange(n) + 0.5 + 0.2 * rng.uniform(-1, 1, n)) * 9.9 / n
        cat = finished(cat)
    background = Background.fit(cat, count=2)
    baselines = Baselines(cat, background, background.catalogue_features(cat))
    settings = SimpleNamespace(memories=[None], max_lag=50, errors=False)
    made = run_baselines.fit_etas(cat, baselines, settings, SimpleNamespace(info=lambda text: None))
    assert ("waiting" in made.fitted.attrs) == regular
    targets = cat.targets("test")
    exact = made.exact(cat, targets, np.random.default_rng(0), 10, 200)
    made.fitted.attrs.pop("waiting", None)
    plain = made.exact(cat, targets, np.random.default_rng(0), 10, 200)
    gain = exact.log_time.mean() - plain.log_time.mean()
    assert gain > 0.3 if regular else gain == 0
    level = (np.arange(200) + 0.5) / 200
    read = [np.interp(g, q, level) for g, q in zip(cat.dt[targets.row], exact.quantiles_time, strict=True)]
    np.testing.assert_allclose(read, exact.cdf_time, atol=0.02)
