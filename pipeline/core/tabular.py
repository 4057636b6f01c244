"""Tables as users give them, CSV and Parquet: whatever is wrong with the file is one documented error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DataError, first_line

if TYPE_CHECKING:
    import pandas as pd


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """A CSV file by pandas, with its options.

    Raises
    ------
    DataError
        No such file, no text in UTF-8, lines with different numbers of fields, or nothing in it.
    """
    import pandas as pd

    try:
        return pd.read_csv(path, **options)
    except Exception as error:  # the parser raises errors of many kinds
        raise DataError(f"{path} can't be read as a table (CSV): {first_line(error)}") from None


def read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet file; its text is looked through first, for Arrow hands on what is no UTF-8 and fails later.

    Raises
    ------
    DataError
        No such file, or a damaged one.
    """
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        table.validate(full=True)
        return table.to_pandas()
    except Exception as error:  # Arrow raises errors of many kinds
        raise DataError(f"{path} can't be read as a table (Parquet): {first_line(error)}") from None


def to_numbers(column: pd.Series) -> np.ndarray:
    """[rows] float64 of a column, NaN where there is nothing or no number; infinite where one is too large."""
    import pandas as pd

    try:
        return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    except (OverflowError, TypeError, ValueError):  # whole numbers beyond the largest float, lists, dates
        return np.array([_number(value) for value in column], np.float64)


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return np.inf
    except (TypeError, ValueError):
        return np.nan
