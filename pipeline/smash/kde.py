"""The background of places: marked kernel densities of the training events at several widths and recencies.

Every density of a component integrates to one over the plane (on a lattice: sums to one over its cells), for each mark
by itself. Training events leave out everything near them in time, else the background would know them by heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .events import Catalogue

TINY = 1e-30  # density below which a Gaussian of single precision says nothing more
BLOCK = 1024  # events whose kernels are held at once
RATIO = 3  # of neighbouring widths: one exponential serves all, the narrower ones are its powers


def scale_of(catalogue: Catalogue) -> np.ndarray:
    """Factors [2] that make distances alike in both directions: degrees of longitude shrink with the latitude."""
    if catalogue.meta["units"]["place"] != "deg":
        return np.ones(2)
    lat = catalogue.meta["scaler"]["xy"]["mean"][1]
    return np.array([np.cos(np.radians(lat)), 1.0])


def widths(catalogue: Catalogue, count: int = 5) -> np.ndarray:
    """Kernel widths [count], each three times the one before it, up to 0.6 of the training places' spread.

    ``meta["narrowest"]`` (of the catalogue of data sets) is a floor: places of addresses come back exactly, and the
    density of a kernel without a floor would grow beyond all bounds there.
    """
    spread = np.sqrt(np.prod(np.array(catalogue.meta["scaler"]["xy"]["sd"]) * scale_of(catalogue)))
    found = 0.6 * spread / RATIO ** np.arange(count)[::-1].astype(float)
    floor = catalogue.meta.get("narrowest")
    if floor:  # keep the ratio: start at the floor
        found = floor * RATIO ** np.arange(count).astype(float)
        found = found[found < 2 * spread]
    return found


@dataclass
class Background:
    """Kernel densities of the training events.

    Components, in this order: widths × recencies of a mark's own events; widths over the events of all marks; one
    broad floor. C = len(widths) · (len(recencies) + 1) + 1.

    Attributes
    ----------
    places: [N, 2] training places in scaled coordinates, in order of time; ``mark``, ``time``: [N].
    weight: [R, N] recency weights.
    scale: [2] factors of the coordinates. widths, recencies: [W], [R] (memory as a share of the training period).
    gap: events nearer in time than this are left out for training events; lattice: size of a cell, or None.
    """

    places: np.ndarray
    mark: np.ndarray
    time: np.ndarray
    window: np.ndarray
    weight: np.ndarray
    scale: np.ndarray
    widths: np.ndarray
    recencies: tuple[float, ...]
    marks: int
    gap: float
    centre: np.ndarray
    spread: np.ndarray
    lattice: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def fit(
        cls, catalogue: Catalogue, recencies: tuple[float, ...] = (np.inf, 0.25, 0.05), count: int = 5
    ) -> Background:
        """From the training windows; their repetitions are taken once."""
        row, time = catalogue.distinct("train")
        order = np.argsort(time, kind="stable")
        row, time = row[order], time[order]
        age = (time[-1] - time) / max(time[-1] - time[0], 1e-9)
        scale, places = scale_of(catalogue), catalogue.xy[row]
        lattice = None
        if catalogue.meta["lattice"]["place"]:
            step = catalogue.meta["lattice"]["place"]
            box = np.array(catalogue.meta["bbox"])
            lattice = tuple(np.arange(box[0, a], box[1, a] + step / 2, step) for a in (0, 1))
        known = {
            "widths": widths(catalogue, count),
            "recencies": recencies,
            "marks": catalogue.marks,
            "gap": (catalogue.meta["window"] or 0.0) + (catalogue.meta["stride"] or 0.0),
        }
        weight = np.stack([np.exp(-age / memory) if np.isfinite(memory) else np.ones_like(age) for memory in recencies])
        return cls(
            places * scale,
            catalogue.labels[row],
            time,
            catalogue.sequence[row],
            weight,
            scale,
            centre=(places * scale).mean(axis=0),
            spread=np.maximum((places * scale).std(axis=0) * 1.5, 1e-9),
            lattice=lattice,
            **known,
        )

    @property
    def components(self) -> int:
        return len(self.widths) * (len(self.recencies) + 1) + 1

    @property
    def columns(self) -> np.ndarray:
        """[N, R K + 1] weights of every training event in the sums: by recency and mark, and all alike."""
        own = self.mark[:, None] == np.arange(self.marks)
        parts = [weight[:, None] * own for weight in self.weight]
        return np.concatenate([*parts, np.ones((len(self.mark), 1))], axis=1)

    def features(self, xy: np.ndarray, time: np.ndarray | None = None) -> np.ndarray:
        """log f_c(x | k) [n, C, K] in catalogue units (the Jacobian of the scaling is in it).

        Parameters
        ----------
        xy: [n, 2] places.
        time: [n] absolute times; given for training events, whose neighbours in time are left out.
        """
        if self.lattice is not None:
            return self._on_lattice(xy)
        u = np.asarray(xy) * self.scale
        columns = self.columns.astype(np.float32)
        total = np.concatenate([np.zeros((1, columns.shape[1])), np.cumsum(columns, axis=0, dtype=np.float64)])
        source, sources = self.places.astype(np.float32), len(self.places)
        norm = (self.places**2).sum(axis=1).astype(np.float64)
        out = np.empty((len(u), self.components, self.marks), np.float32)
        widest = self.widths[-1]
        for start in range(0, len(u), BLOCK):
            block = u[start : start + BLOCK]
            # [n, N] squared distances over 2 H^2, by differences: a product of sums would lose the near ones
            exponent = np.subtract.outer(block[:, 0].astype(np.float32), source[:, 0])
            exponent *= exponent
            other = np.subtract.outer(block[:, 1].astype(np.float32), source[:, 1])
            other *= other
            exponent += other
            exponent *= np.float32(-0.5 / widest**2)
            kernel = np.exp(exponent, out=exponent)
            low = high = np.zeros(len(block), int)
            if time is not None:
                near = time[start : start + BLOCK]
                low = np.searchsorted(self.time, near - self.gap, side="left")
                high = np.searchsorted(self.time, near + self.gap, side="right")
                for i, (a, b) in enumerate(zip(low, high, strict=True)):
                    kernel[i, a:b] = 0
            mass = total[-1] - (total[high] - total[low])  # [n, R K + 1]
            for place in range(len(self.widths) - 1, -1, -1):
                sums = kernel @ columns
                self._put(out[start : start + BLOCK], sums, mass, place)
                if place:
                    kernel = kernel * kernel * kernel  # RATIO is 3, so the exponent grows by 9
                    kernel = kernel * kernel * kernel
        del norm, sources
        self._floor(out, u)
        return out

    def _put(self, out: np.ndarray, sums: np.ndarray, mass: np.ndarray, place: int) -> None:
        """Write the components of one width: sums and their weights [n, R K + 1] -> log densities."""
        unit = np.prod(self.scale) / (2 * np.pi * self.widths[place] ** 2)
        dense = np.log(np.maximum(sums * unit / np.maximum(mass, 1e-9), TINY))
        count, rec = len(self.widths), len(self.recencies)
        own = dense[:, :-1].reshape(len(dense), rec, self.marks)  # [n, R K] -> [n, R, K]
        for r in range(rec):
            out[:, place * rec + r] = own[:, r]
        out[:, count * rec + place] = dense[:, -1:]

    def _floor(self, out: np.ndarray, u: np.ndarray) -> None:
        z = (u - self.centre) / self.spread
        log = -0.5 * (z**2).sum(axis=1) - np.log(2 * np.pi * np.prod(self.spread)) + np.log(np.prod(self.scale))
        out[:, -1] = np.maximum(log, np.log(TINY))[:, None]

    def _smooth(self, place: int) -> list[np.ndarray]:
        """Two matrices [cells, cells]: a cell's mass is spread over its axis, and nothing leaves the lattice."""
        found = []
        for axis in self.lattice:
            kernel = np.exp(-0.5 * (np.subtract.outer(axis, axis) / self.widths[place]) ** 2)
            found.append(kernel / kernel.sum(axis=0))
        return found

    def cells(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of places on the lattice (beyond its edge: the nearest cell)."""
        step = [axis[1] - axis[0] for axis in self.lattice]
        found = [np.rint((xy[:, a] - self.lattice[a][0]) / step[a]).astype(int) for a in (0, 1)]
        return tuple(np.clip(f, 0, len(axis) - 1) for f, axis in zip(found, self.lattice, strict=True))

    def counts(self, leave: int | None = None) -> np.ndarray:
        """[R K + 1, X, Y] weights of the training events by cell, without those of window ``leave``."""
        columns = self.columns
        if leave is not None:
            columns = columns * (self.window != leave)[:, None]
        a, b = self.cells(self.places / self.scale)
        shape = (columns.shape[1], len(self.lattice[0]), len(self.lattice[1]))
        out = np.zeros(shape)
        for c in range(shape[0]):
            np.add.at(out[c], (a, b), columns[:, c])
        return out

    def tables(self, leave: int | None = None) -> np.ndarray:
        """log mass of every cell over its area [C, K, X, Y]."""
        counts = self.counts(leave)
        mass = np.maximum(counts.sum(axis=(1, 2), keepdims=True), 1e-9)
        area = np.prod([axis[1] - axis[0] for axis in self.lattice])
        out = np.empty((self.components, self.marks, *counts.shape[1:]), np.float32)
        count, rec = len(self.widths), len(self.recencies)
        for place in range(count):
            left, right = self._smooth(place)
            dense = np.log(np.maximum(left @ (counts / mass) @ right.T / area, TINY))
            out[place * rec : (place + 1) * rec] = dense[:-1].reshape(rec, self.marks, *counts.shape[1:])
            out[count * rec + place] = dense[-1]
        out[-1] = -np.log(area * counts.shape[1] * counts.shape[2])
        return out

    def _on_lattice(self, xy: np.ndarray, leave: int | None = None) -> np.ndarray:
        a, b = self.cells(np.asarray(xy))
        return np.moveaxis(self.tables(leave)[:, :, a, b], 2, 0)  # [C, K, n] -> [n, C, K]

    def catalogue_features(self, catalogue: Catalogue, rows: np.ndarray | None = None) -> np.ndarray:
        """Features of a catalogue's events [n, C, K]; each event of the training windows without its neighbours."""
        rows = np.arange(len(catalogue.t)) if rows is None else rows
        sequence = catalogue.sequence[rows]
        train = catalogue.split[sequence] == 0
        out = np.empty((len(rows), self.components, self.marks), np.float32)
        if self.lattice is not None:
            for one in np.unique(sequence[train]):
                here = sequence == one
                out[here] = self._on_lattice(catalogue.xy[rows[here]], leave=int(one))
            out[~train] = self._on_lattice(catalogue.xy[rows[~train]])
            return out
        time = np.round(catalogue.start[sequence] + catalogue.t[rows], 6)
        for part, clock in ((train, True), (~train, False)):
            if not part.any():
                continue
            key = np.column_stack([time[part], catalogue.xy[rows[part]]]) if clock else catalogue.xy[rows[part]]
            once, back = np.unique(key, axis=0, return_inverse=True)  # overlapping windows repeat their events
            found = self.features(once[:, 1:], once[:, 0]) if clock else self.features(once)
            out[part] = found[back.reshape(-1)]
        return out

    def sample(self, component: np.ndarray, mark: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Places [n, 2] drawn from components [n] given marks [n]."""
        count, rec = len(self.widths), len(self.recencies)
        out = rng.normal(size=(len(component), 2)) * self.spread + self.centre  # the floor; the others overwrite it
        if self.lattice is not None:
            flat = rng.integers(0, len(self.lattice[0]) * len(self.lattice[1]), len(component))
            a, b = np.divmod(flat, len(self.lattice[1]))
            out = np.column_stack([self.lattice[0][a], self.lattice[1][b]]) * self.scale
        columns = self.columns
        for c in np.unique(component):
            if c == self.components - 1:
                continue
            place = c - count * rec if c >= count * rec else c // rec
            for k in np.unique(mark[component == c]):
                here = np.flatnonzero((component == c) & (mark == k))
                column = columns[:, -1] if c >= count * rec else columns[:, (c % rec) * self.marks + k]
                if column.sum() <= 0:
                    continue
                steps = np.cumsum(column)
                source = np.searchsorted(steps, rng.random(len(here)) * steps[-1], side="right")
                source = np.minimum(source, len(steps) - 1)
                out[here] = self.places[source] + rng.normal(size=(len(here), 2)) * self.widths[place]
        out = out / self.scale
        if self.lattice is not None:
            a, b = self.cells(out)
            out = np.column_stack([self.lattice[0][a], self.lattice[1][b]])
        return out
