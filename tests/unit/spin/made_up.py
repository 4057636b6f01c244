"""Small made-up cubes for tests: no file, no network."""

import numpy as np

from pipeline.spin.cube import Cube


def cube(times=240, nodes=6, channels=2, masks=2, seed=0, missing=0.05, rate=0.2, segments=1, step_seconds=300.0):
    """Daily waves that neighbours on a ring share, with noise; `missing` really absent, `rate` hidden by each mask.

    Channel 1 is about ten times channel 0 and correlated with it. Splits 60/20/20 % in time.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(times)[:, None]
    phase = np.linspace(0, 1, nodes, endpoint=False)[None]
    wave = np.sin(2 * np.pi * (t / 96 + 0.1 * phase)) + 0.3 * np.sin(2 * np.pi * (t / 17 + phase))
    shared = np.cumsum(rng.normal(0, 0.05, (times, 1)), axis=0)
    base = wave + shared + rng.normal(0, 0.05, (times, nodes))
    value = np.stack([(10.0**c) * (5 + base + 0.1 * c * rng.normal(size=base.shape)) for c in range(channels)], axis=2)
    value = np.where(rng.random(value.shape) < missing, np.nan, value).astype(np.float32)
    hidden = rng.random((masks, *value.shape)) < rate
    ring = np.arange(nodes)
    edge_index = np.stack([np.concatenate([ring, (ring + 1) % nodes]), np.concatenate([(ring + 1) % nodes, ring])])
    split = np.repeat([0, 1, 2], [times - 2 * (times // 5), times // 5, times // 5]).astype(np.int8)
    angle = 2 * np.pi * ring / nodes
    return Cube(
        value=value,
        hidden=hidden,
        on_line=np.zeros(value.shape, bool),
        time=np.datetime64("2024-01-01", "ns") + (np.arange(times) * int(step_seconds)).astype("timedelta64[s]"),
        segment=(np.arange(times) * segments // times).astype(np.int32),
        split=split,
        nodes=tuple(f"n{i}" for i in ring),
        channels=tuple(f"c{i}" for i in range(channels)),
        units=tuple("1" for _ in range(channels)),
        masks=tuple(f"seed {i}" for i in range(masks)),
        edge_index=edge_index.astype(np.int64),
        edge_weight=np.full(2 * nodes, 0.8, np.float32),
        edge_type=np.repeat([0, 1], nodes).astype(np.int8),
        edge_types=("downstream", "upstream"),
        place=np.stack([np.cos(angle), np.sin(angle)], axis=1),
        step_seconds=step_seconds,
        info={"name": "made_up", "requested": "made_up", "source": "simulation", "sha256": None, "licence": "MIT"},
        attrs={"place": "xy", "pattern": {"kind": "point", "rate": rate}},
    )
