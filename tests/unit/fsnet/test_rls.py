"""The recursion equals the batch solution, survives a million steps, and resumes to the bit."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.fsnet.rls import RecursiveLeastSquares

PLAIN = Path(__file__).parents[2] / "reference" / "rls_plain.py"
spec = importlib.util.spec_from_file_location("rls_plain", PLAIN)
rls_plain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rls_plain)


def stream(seed, n, d, h):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * rng.uniform(0.2, 3.0, d)
    return x, x @ rng.normal(size=(d, h)) + rng.normal(size=(n, h)), rng.uniform(0.1, 4.0, n)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 60),
    d=st.integers(1, 8),
    h=st.integers(1, 4),
    forgetting=st.sampled_from([1.0, 0.99, 0.9]),
)
def test_equals_the_batch_solution(seed, n, d, h, forgetting):
    x, y, w = stream(seed, n, d, h)
    ridge = np.linspace(0.5, 5.0, d)
    model = RecursiveLeastSquares(d, h, ridge, forgetting)
    for row in range(n):
        model.learn(x[row], y[row], w[row])
    # n < 64: forgetting cannot have been paused, so the identity is exact
    weights, inverse = rls_plain.weighted_ridge(x, y, ridge, forgetting, w)
    np.testing.assert_allclose(model.weights, weights, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(model.covariance, inverse, rtol=1e-8, atol=1e-12)


def test_one_row_by_hand():
    # ridge 1, x = 2, y = 3: W = x y / (x^2 + 1) = 6/5, P = 1/5; weight 4: W = 24/17
    model = RecursiveLeastSquares(1, 1, 1.0)
    assert model.learn(np.array([2.0]), np.array([3.0]))[0] == 3.0
    assert model.weights[0, 0] == pytest.approx(1.2)
    assert model.covariance[0, 0] == pytest.approx(0.2)
    heavy = RecursiveLeastSquares(1, 1, 1.0)
    heavy.learn(np.array([2.0]), np.array([3.0]), weight=4.0)
    assert heavy.weights[0, 0] == pytest.approx(24 / 17)


def test_clip_bounds_an_outlier_and_weight_zero_is_ignored():
    x, y, _ = stream(0, 50, 3, 2)
    tame, wild, idle = (RecursiveLeastSquares(3, 2, 1.0) for _ in range(3))
    for row in range(50):
        for model in (tame, wild, idle):
            model.learn(x[row], y[row])
    one = np.array([1.0, 1.0, 1.0])
    prediction = tame.predict(one)
    clip = np.array([0.5, 0.5])
    tame.learn(one, prediction + 0.5, clip=clip)
    wild.learn(one, prediction + 1e9, clip=clip)
    np.testing.assert_allclose(wild.weights, tame.weights)
    before = idle.weights.copy()
    idle.learn(one, prediction + 1e9, weight=0.0)
    assert np.array_equal(idle.weights, before)


def test_a_million_steps_with_forgetting():
    """Without symmetry errors grow like lambda^-n; the usual recursion is lost after some thousand steps."""
    forgetting = 0.99
    rng = np.random.default_rng(1)
    truth = np.array([[1.0, -2.0, 0.5]])
    model = RecursiveLeastSquares(3, 1, 10.0, forgetting)
    n, block = 1_000_000, 10_000
    for start in range(0, n, block):
        x = rng.normal(size=(block, 3)) @ np.array([[1.0, 0.9, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 1.0]])
        if start // block % 10 == 5:
            x[:, 2] = 0.0  # a sensor that is stuck for 10,000 steps: 1/lambda to that power is 10^43
        y = x @ truth.T + 0.1 * rng.normal(size=(block, 1))
        for row in range(block):
            model.learn(x[row], y[row])
    p = model.covariance
    assert np.array_equal(p, p.T)
    eigenvalues = np.linalg.eigvalsh(p)
    assert eigenvalues.min() > 0 and p.trace() < 10 * 0.3
    # noise .1, about 1/(1-lambda) rows remembered, smallest eigenvalue of the inputs' covariance about .005
    assert np.abs(model.weights - truth).max() < 5 * 0.1 * np.sqrt((1 - forgetting) / 2 / 0.005)


def test_state_resumes_to_the_bit():
    x, y, w = stream(3, 500, 6, 3)
    straight = RecursiveLeastSquares(6, 3, 2.0, 0.99)
    for row in range(500):
        straight.learn(x[row], y[row], w[row])
    pieces = RecursiveLeastSquares(6, 3, 2.0, 0.99)
    for row in range(500):
        pieces.learn(x[row], y[row], w[row])
        if row % 97 == 0:
            saved, pieces = pieces.state(), RecursiveLeastSquares(6, 3, 7.0, 0.99)
            pieces.restore(saved)
    assert np.array_equal(pieces.weights, straight.weights)
    assert np.array_equal(pieces.covariance, straight.covariance)


@pytest.mark.parametrize(("ridge", "forgetting"), [(0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (1.0, 0.0), (1.0, 1.1)])
def test_bad_settings(ridge, forgetting):
    with pytest.raises(ValueError):
        RecursiveLeastSquares(2, 1, ridge, forgetting)
