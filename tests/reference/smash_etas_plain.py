"""ETAS in plain loops over events: the obviously right counterpart of the vectorised likelihood."""

import math

import numpy as np


def trigger(p, part, t, parent, mark):
    a = math.exp(p["log_a"][part][mark])
    if part == "fast":
        return a * (t - parent + math.exp(p["log_c"])) ** -math.exp(p["log_p"])
    if part == "slow":
        tau = math.exp(p["log_tau"])
        return a * math.exp(-(t - parent) / tau) / tau
    return a / (math.exp(p["log_b"]) + t)


def background(p, t):
    b = math.exp(p["log_b"])
    return math.exp(p["log_mu"]) + math.exp(p["log_mu_falling"]) * b / (b + t)


def space(p, part, r2, mark):
    d2, q = math.exp(2 * p["log_d"][part][mark]), 1 + math.exp(p["log_q"][part])
    return (q - 1) / math.pi * d2 ** (q - 1) * (r2 + d2) ** -q


def softmax(values):
    e = np.exp(np.asarray(values) - np.max(values))
    return e / e.sum()


def rate(p, t, past):
    """Rate at time t given past events (time, mark, place)."""
    return background(p, t) + sum(trigger(p, part, t, s, m) for s, m, _ in past for part in p["log_a"])


def window(p, times, marks, places, features, end, steps=4000):
    """Log densities of events 2 … n of one window and of its survival; integrals by the trapezoidal rule.

    features[i]: [C, K] log densities of the background's components at event i.
    """
    share = softmax(p["background_mark"])
    mix = [softmax(row) for row in p["background_mix"]]  # by mark
    matrix = {part: [softmax(row) for row in rows] for part, rows in p["mark_logits"].items()}
    events = list(zip(times, marks, places, strict=True))
    found = []

    def gone(a, b, past):
        grid = a + (b - a) * np.linspace(0, 1, steps) ** 3  # fine where Omori's law is steep
        values = np.array([rate(p, t, past) for t in grid])
        return float(np.sum(0.5 * (values[1:] + values[:-1]) * np.diff(grid)))

    for i in range(1, len(events)):
        t, mark, place = events[i]
        past = events[:i]
        total = rate(p, t, past)
        dense = []
        for k in range(len(share)):
            own = share[k] * sum(w * math.exp(f) for w, f in zip(mix[k], features[i][:, k], strict=True))
            value = background(p, t) * own
            for s, m, x in past:
                r2 = float(((np.asarray(place) - x) ** 2).sum())
                for part in p["log_a"]:
                    value += trigger(p, part, t, s, m) * space(p, part, r2, m) * matrix[part][m][k]
            dense.append(value)
        found.append(
            {
                "time": math.log(total) - gone(events[i - 1][0], t, past),
                "place": math.log(sum(dense) / total),
                "mark": math.log(dense[mark] / sum(dense)),
            }
        )
    return found, -gone(events[-1][0], end, events)
