"""Two experts that are not linear, for the pool: analogues of the present, and a forest that is renewed every week.

Both forecast differences to the last row like the linear experts, both learn from a window only once its last label is
known, and both keep raw rows, not fitted objects, as their state: analogues need nothing else, and the trees that are
alive are grown again, from the same rows with the same seeds, when a state is restored.
"""

import numpy as np

from pipeline.fsnet.features import RAW_LAGS

WARM_ROWS = RAW_LAGS - 1
ANALOGUE_LAGS = 24  # rows of recent path that are compared
ANALOGUE_COUNT = 30
ANALOGUE_DECAY = 12.0  # rows: the path counts less the older it is
ANALOGUE_LEVEL = 1.0  # weight of the level beside the path
ANALOGUE_WARM = 200  # no analogue before this row: persistence
PHASE_SPREAD = 1 / 12  # of a season: analogues start at about the same time of day
FOREST_LAGS = (
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    12,
    14,
    16,
    18,
    20,
    21,
    22,
    23,
    24,
    25,
    26,
    36,
    48,
    96,
    167,
)  # 24ths of a season
TREES = 60
TREE_ROWS = 2000  # rows that one tree is grown on
TREE_LEAF = 5
RENEWAL = 8.0  # share of trees renewed at a refit = RENEWAL x relative growth of the history


class AnalogueExpert:
    """Mean continuation of the past windows that looked most like the present one (Lorenz 1969; k nearest neighbours).

    Windows are compared by the path of the last 24 rows relative to the last one, and by the level.
    """

    def __init__(self, bank):
        self.season, self.horizon = bank.season, bank.horizon
        self.columns = bank.lags < ANALOGUE_LAGS
        self.decay = np.exp(-bank.lags[self.columns] / ANALOGUE_DECAY)
        self.paths = np.zeros((0, len(self.decay) + 1))
        self.values = np.zeros(0)

    def push(self, blocks, labels, first_row):
        """As ``LinearExpert.push``: [m, H] forecasts."""
        h, s = self.horizon, self.season
        paths = np.concatenate(
            [blocks["lags"][:, self.columns] * self.decay, ANALOGUE_LEVEL * blocks["level"][:, 1:]], axis=1
        )
        m, n = len(paths), len(self.values)
        self.paths = np.concatenate([self.paths, paths])
        self.values = np.concatenate([self.values, labels[h:]])
        out = np.repeat(labels[h:, None], h, axis=1)
        spread = int(round(PHASE_SPREAD * s))
        ahead = np.arange(1, 1 + h)
        for i in range(m):
            t = n + i
            if t < ANALOGUE_WARM:
                continue
            usable = np.arange(ANALOGUE_LAGS, t - h + 1)
            shift = (t - usable) % s
            usable = usable[(shift <= spread) | (shift >= s - spread)]
            if len(usable) == 0:
                continue
            gap = self.paths[usable] - self.paths[t]
            distance = np.einsum("nd,nd->n", gap, gap)
            k = min(ANALOGUE_COUNT, len(usable))
            near = np.argsort(distance, kind="stable")[:k] if k == len(usable) else np.argpartition(distance, k - 1)[:k]
            weight = np.exp(-2.0 * distance[near] / (distance[near].max() + 1e-12))
            chosen = usable[near]
            moves = self.values[chosen[:, None] + ahead] - self.values[chosen][:, None]  # [k, H]
            out[i] += weight @ moves / weight.sum()
        return out

    def state(self):
        return {"paths": self.paths.copy(), "values": self.values.copy()}

    def restore(self, state):
        self.paths, self.values = np.array(state["paths"], float), np.array(state["values"], float)


class ForestExpert:
    """Extremely randomised trees (Geurts, Ernst & Wehenkel 2006) on lags, level, phase, profile and the linear mean.

    Refitted every seven seasons on all windows that are complete by then; each refit replaces the oldest trees, all of
    them while the history is short, a share once a week more changes little.

    Parameters
    ----------
    residual : bool
        Forecast what the mean of the linear experts leaves, not the difference to the last row.
    """

    def __init__(self, bank, residual=False, seed=0, exog=False):
        self.season, self.horizon = bank.season, bank.horizon
        wanted = {max(1, round(f * bank.season / 24)) for f in FOREST_LAGS} if bank.season > 1 else set(range(1, 25))
        self.columns = np.isin(bank.lags, sorted(wanted))
        self.residual, self.seed, self.exog = residual, seed, exog
        self.every = max(7 * bank.season, 168)
        self.inputs = None  # [n, D] float32
        self.values = np.zeros(0)
        self.linear = np.zeros((0, self.horizon))
        self.trees = []  # [(number of the fit, trees grown in it, those still alive)], oldest first

    def push(self, blocks, labels, first_row):
        """As ``LinearExpert.push``; ``blocks["linear"]`` [m, H]: the linear mean relative to the last row."""
        h = self.horizon
        width = min(h, self.season)
        m, n = len(labels) - h, len(self.values)
        phase = ((first_row + np.arange(m)) % self.season)[:, None]
        parts = [blocks["lags"][:, self.columns], blocks["level"][:, 1:], phase]
        parts += [blocks["profile"][:, :width], blocks["linear"]]
        if self.exog:
            parts.append(blocks["exog"])
        x = np.nan_to_num(np.concatenate(parts, axis=1)).clip(-1e30, 1e30).astype(np.float32)
        self.inputs = x if self.inputs is None else np.concatenate([self.inputs, x])
        self.values = np.concatenate([self.values, labels[h:]])
        self.linear = np.concatenate([self.linear, blocks["linear"]])
        base = labels[h:, None] + (blocks["linear"] if self.residual else 0.0)
        out = np.broadcast_to(base, (m, h)).copy()
        t = n
        while t < n + m:
            if t % self.every == 0 and t > 0:
                self._refit(t // self.every)
            stop = min(n + m, (t // self.every + 1) * self.every)
            if self.trees:
                rows = self.inputs[t:stop]
                grown = [tree for _, _, some in self.trees for tree in some]
                total = sum(tree.predict(rows).reshape(-1, h) for tree in grown)
                out[t - n : stop - n] += total / len(grown)
            t = stop
        return out

    def _refit(self, number):
        end = number * self.every
        if end - self.horizon < WARM_ROWS + 10 * TREE_LEAF:
            return  # too few complete windows
        share = min(1.0, RENEWAL * self.every / end)
        new = max(1, round(TREES * share))
        self.trees.append((number, new, self._grow(number, new)))
        kept, alive = 0, []
        for fit, count, some in reversed(self.trees):
            some = some[: TREES - kept]
            kept += len(some)
            if some:
                alive.append((fit, count, some))
        self.trees = alive[::-1]

    def _grow(self, number, count):
        from sklearn.ensemble import ExtraTreesRegressor

        h, end = self.horizon, number * self.every
        rows = np.arange(WARM_ROWS, end - h + 1)  # the last label of the last one is row `end`
        y = self.values[rows[:, None] + np.arange(1, 1 + h)] - self.values[rows][:, None]
        if self.residual:
            y = y - self.linear[rows]
        sound = np.isfinite(y).all(axis=1)
        rows, y = rows[sound], y[sound]
        few = len(rows) <= TREE_ROWS
        forest = ExtraTreesRegressor(
            n_estimators=count,
            min_samples_leaf=TREE_LEAF,
            max_features=0.5,
            bootstrap=not few,
            max_samples=None if few else TREE_ROWS,
            n_jobs=1,
            random_state=self.seed * 1_000_003 + number,
        )
        return list(forest.fit(self.inputs[rows], y if h > 1 else y[:, 0]).estimators_)

    def state(self):
        return {
            "inputs": self.inputs.copy(),
            "values": self.values.copy(),
            "linear": self.linear.copy(),
            "fits": np.array([(fit, count, len(some)) for fit, count, some in self.trees]).reshape(-1, 3),
        }

    def restore(self, state):
        """Grow the trees alive again from the saved rows: the same seeds and rows give the same trees."""
        self.inputs = np.array(state["inputs"], np.float32)
        self.values, self.linear = np.array(state["values"], float), np.array(state["linear"], float)
        self.trees = [
            (fit, count, self._grow(fit, count)[:alive])
            for fit, count, alive in np.asarray(state["fits"], int).tolist()
        ]
