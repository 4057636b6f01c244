"""Progress of long work: a bar on a terminal, else lines with rate and remaining time at growing intervals."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

FIRST_LINE_S = 5.0
LONGEST_GAP_S = 60.0
REPORT_GAP_S = 2.0


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 05 s, 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


class Progress:
    """Counts `total` steps of `what`; made by `RunLog.progress`.

    `update(step)` sets the number of steps done (absolute, so that a resumed run starts where it stopped:
    `initial`). It may be called at every step: all but the due ones cost a look at the clock.
    A line falls due after 5 s, then after gaps that double up to one minute.
    """

    def __init__(
        self,
        total: int,
        what: str,
        *,
        write: Callable[[str], None],
        report: Callable[[dict[str, Any]], None] = lambda state: None,
        bar: bool = False,
        initial: int = 0,
        items: Iterable | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total, self.what, self.step = total, what, initial
        self._write, self._report, self._items, self._clock = write, report, items, clock
        self._initial, self._begun = initial, clock()
        self._gap = FIRST_LINE_S
        self._next_line = self._begun + FIRST_LINE_S
        self._next_report = self._begun + REPORT_GAP_S
        self._closed = False
        self._bar = None
        if bar:
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=initial, desc=what, dynamic_ncols=True, leave=False)

    def update(self, step: int) -> None:
        """Set the number of steps done."""
        if self._bar is not None:
            self._bar.update(step - self.step)
        self.step = step
        now = self._clock()
        if now >= self._next_report:
            self._next_report = now + REPORT_GAP_S
            self._report({"what": self.what, "step": step, "total": self.total, "time": time.time()})
        if self._bar is None and now >= self._next_line:
            self._gap = min(2 * self._gap, LONGEST_GAP_S)
            self._next_line = now + self._gap
            self._write(self._line(now - self._begun))

    def _line(self, elapsed: float) -> str:
        share = f" ({self.step / self.total:.0%})" if self.total else ""
        rate = (self.step - self._initial) / elapsed if elapsed > 0 else 0.0
        if rate <= 0:
            return f"{self.what}: {self.step}/{self.total}{share}"
        left = max(self.total - self.step, 0) / rate
        return f"{self.what}: {self.step}/{self.total}{share}, {rate:.3g}/s, {duration(left)} left"

    def close(self) -> None:
        """End the bar or write the closing line; further calls do nothing."""
        if self._closed:
            return
        self._closed = True
        if self._bar is not None:
            self._bar.close()
        elapsed = self._clock() - self._begun
        self._write(f"{self.what}: {self.step}/{self.total} in {duration(elapsed)}")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def __iter__(self) -> Iterator:
        if self._items is None:
            raise TypeError("this progress was made from a number of steps: call update(step)")
        with self:
            for done, item in enumerate(self._items, start=self._initial + 1):
                yield item
                self.update(done)
