"""One scenario's block of the results table as the printed analysis reads it, and how it writes numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.board import Method, gains
from ..core.figures import number
from .labels import METRICS, kind


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; the first column is text, all others are numbers."""
    marks = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(row)} |" for row in (heads, marks, *rows)]


def spread(method: Method, metric: str, digits: int = 3) -> str:
    """mean ± sd of a metric; – where there is none."""
    mean = method.mean(metric)
    if mean is None:
        return "–"
    text = number(mean, digits)
    sd = method.entry["metrics"][metric].get("sd")
    decimals = len(text.split(".")[1]) if "." in text else 0
    return text if sd is None else f"{text} ± {sd:.{decimals}f}"


def signed(percent: float | None, decimals: int = 1) -> str:
    """A change in percent with its sign."""
    return "–" if percent is None else f"{percent:+.{decimals}f} %".replace("-", "−")


def fixed(value: float | None, decimals: int) -> str:
    """A number with so many decimals; – where there is none."""
    return "–" if value is None else f"{value:.{decimals}f}"


class Block:
    """One scenario's block of the table with its methods by name."""

    def __init__(self, name: str, block: Mapping[str, Any]):
        self.name, self.block = name, block
        self.methods = {n: Method(n, kind(entry), entry) for n, entry in block["arms"].items()}
        self.methods |= {n: Method(n, "baseline", entry) for n, entry in block["baselines"].items()}

    @property
    def leaky(self) -> bool:
        return bool(self.block["leaky"])

    @property
    def title(self) -> str:
        return f"`{self.name}`" + (" (leaky)" if self.leaky else "")

    @property
    def task(self) -> Mapping[str, Any]:
        return next((e["settings"]["task"] for e in self.block["arms"].values() if e.get("settings")), {})

    def mean(self, method: str, metric: str = "mse") -> float | None:
        return self.methods[method].mean(metric) if method in self.methods else None

    def ranked(self, arms_only: bool = False) -> list[Method]:
        """Methods from the lowest to the highest MSE."""
        found = [m for m in self.methods.values() if m.mean("mse") is not None]
        return sorted((m for m in found if not arms_only or m.kind != "baseline"), key=lambda m: m.mean("mse"))

    def gain(self, method: str, reference: str, metric: str = "mse") -> dict[str, Any] | None:
        """Improvement in percent with its interval over seeds."""
        if method not in self.methods or reference not in self.methods:
            return None
        return gains(self.methods[method], self.methods[reference], metric)

    def without_memory(self, method: Method) -> str | None:
        """The arm that differs from this one in its memory alone."""

        def rest(entry: Mapping[str, Any]) -> dict[str, Any]:
            settings = dict(entry.get("settings") or {})
            settings["memory"] = None
            settings["regime"] = {**(settings.get("regime") or {}), "memory": None}
            return settings

        for name, other in self.methods.items():
            if other.kind == "arm without memory" and rest(other.entry) == rest(method.entry):
                return name
        return None

    def comparison(self, a: str, b: str) -> Mapping[str, Any] | None:
        """The paired comparison of two methods, whichever way round the table has it, as a - b."""
        for entry in self.block["comparisons"]:
            if (entry["a"], entry["b"]) == (a, b):
                return entry
            if (entry["a"], entry["b"]) == (b, a):
                low, high = entry["ci95"]
                return {**entry, "a": a, "b": b, "difference": -entry["difference"], "ci95": [-high, -low]}
        return None


def verdict(block: Block, entry: Mapping[str, Any]) -> str:
    """One comparison as a sentence."""
    base = block.mean(entry["b"], entry["metric"])
    change, low, high = (100 * value / base for value in (entry["difference"], *entry["ci95"]))
    says = "not told apart" if low <= 0 <= high else "better" if high < 0 else "worse"
    seeds = f", t over seeds {entry['t_seeds']:+.1f}".replace("-", "−") if entry.get("t_seeds") else ""
    what = f"{signed(change)} {METRICS[entry['metric']].split(' [')[0]}"
    return (
        f"`{entry['a']}` against `{entry['b']}`: {what} (95 % interval {signed(low)} … {signed(high)}, "
        f"p = {entry['p']:.2g}{seeds}): {says}."
    )
