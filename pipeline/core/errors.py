"""Errors that a user can act on."""


class PipelineError(Exception):
    """Bad input, data or configuration; the message says what, where, what is allowed and what to do.

    Command-line entry points print the message alone (no traceback) and exit non-zero.
    """


class ConfigError(PipelineError):
    """A configuration key, type or value that is not allowed."""


class DataError(PipelineError):
    """A data file or table that is missing, damaged or not of the documented form."""


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line fit for a message; its name where it says nothing."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line if len(line) <= 300 else line[:300] + " …"
