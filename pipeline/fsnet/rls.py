"""Recursive least squares for several outputs that share their inputs.

One kernel serves every linear expert.  The model is ``y = W x`` with W [H, D]; all H outputs see the same inputs, so
one inverse covariance P [D, D] and ONE gain vector a window serve them all: a step costs O(D^2 + H D), not O(H D^2).

Stability.  The recursion ``P <- (P - k (P x)^T) / lambda`` keeps P symmetric in exact arithmetic only; with forgetting
the antisymmetric part of the rounding error grows like lambda^-n until the filter blows up.  Here only the upper
triangle of P exists (BLAS ``symv`` and ``syr``), so P is symmetric by construction.  Two further dangers of forgetting
are met as well: the division by lambda is a scalar that is folded in rarely, and forgetting pauses while the
mean diagonal of P is above its starting value, so that inputs that stop moving (a stuck sensor) cannot wind P up
without bound.  The same rule keeps the ridge alive in directions that the data never excite.

Source: Haykin, Adaptive Filter Theory, ch. 10 (RLS with exponential forgetting); Verhaegen 1989 (symmetric form).
The plain form is in ``tests/reference/rls_plain.py``.
"""

import numpy as np
from scipy.linalg.blas import ddot, dsymv, dsyr

FOLD = 64  # steps between two looks at the diagonal of P


class RecursiveLeastSquares:
    """Least squares with forgetting, ridge and sample weights, one row at a time.

    Minimises, after n rows, ``sum_i lambda^(n-i) w_i |y_i - W x_i|^2`` plus the (equally forgotten) ridge
    ``lambda^n sum_d ridge_d |W[:, d]|^2`` for every output.

    Parameters
    ----------
    n_inputs, n_outputs : int
        D and H.
    ridge : float or array [D]
        Penalty of each input; P starts as ``diag(1 / ridge)``.  Must be positive.
    forgetting : float
        lambda in (0, 1]; 1 forgets nothing.
    """

    def __init__(self, n_inputs, n_outputs, ridge=10.0, forgetting=1.0):
        ridge = np.broadcast_to(np.asarray(ridge, float), (n_inputs,))
        if not (np.isfinite(ridge).all() and (ridge > 0).all()):
            raise ValueError("ridge must be positive and finite for every input")
        if not 0.0 < forgetting <= 1.0:
            raise ValueError(f"forgetting must lie in (0, 1], got {forgetting}")
        self.forgetting = float(forgetting)
        self.weights = np.zeros((n_outputs, n_inputs))  # W: [H, D]
        self._triangle = np.asfortranarray(np.diag(1.0 / ridge))  # Q: [D, D], upper triangle; P = scale * Q
        self._diagonal = self._triangle.reshape(-1, order="F")[:: n_inputs + 1]  # a view of [D]
        self._scale = 1.0
        self._bound = float((1.0 / ridge).sum())
        self._count = 0
        self._paused = False

    def predict(self, x):
        """x: [D] -> [H]."""
        return self.weights @ x

    def learn(self, x, y, weight=1.0, clip=None):
        """Take in one row.

        Parameters
        ----------
        x : array [D]
        y : array [H]
        weight : float
            How much the row counts (inverse variance); 0 or below is ignored.
        clip : array [H] or None
            Errors beyond it are cut to it (Huber's psi): one outlier then moves the weights by a bounded step.

        Returns
        -------
        array [H]
            The error before the update, uncut.
        """
        error = y - self.weights @ x
        if weight <= 0.0:
            return error
        px = dsymv(self._scale, self._triangle, x)  # P x: [D]
        spread = max(ddot(x, px), 0.0)  # rounding may leave a tiny negative value where it is zero
        fade = 1.0 if self._paused else self.forgetting
        denominator = fade / weight + spread
        used = error if clip is None else np.clip(error, -clip, clip)
        self.weights += np.multiply.outer(used / denominator, px)
        dsyr(-1.0 / (denominator * self._scale), px, a=self._triangle, overwrite_a=1)
        self._count += 1
        if self.forgetting < 1.0:
            self._scale /= fade
            if self._count % FOLD == 0:
                self._guard()
        return error

    def _guard(self):
        """Fold the scalar into P before it grows, and pause forgetting while P is wider than it began."""
        if self._scale > 1e3:
            self._triangle *= self._scale
            self._scale = 1.0
        self._paused = self._scale * self._diagonal.sum() > self._bound

    @property
    def covariance(self):
        """P: [D, D], symmetric to the last bit."""
        upper = np.triu(self._triangle) * self._scale
        return upper + np.triu(upper, 1).T

    def state(self):
        """Everything that ``restore`` needs, as a dict of arrays (copies)."""
        return {
            "weights": self.weights.copy(),
            "triangle": self._triangle.copy(order="F"),
            "scalars": np.array([self._scale, self._bound, self._count, self._paused], float),
        }

    def restore(self, state):
        """Continue where ``state`` was taken; later numbers are the same to the last bit."""
        self.weights[:] = state["weights"]
        self._triangle[:] = state["triangle"]
        self._scale, self._bound, count, paused = (float(v) for v in state["scalars"])
        self._count, self._paused = int(count), bool(paused)
