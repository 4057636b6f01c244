"""Where the project's own files are: `config.yaml`, `config/`."""

import sys
import sysconfig
from pathlib import Path

NAME = "spatiotemporal-pipeline"


def _home() -> Path:
    """The source tree that this package lies in, or where `pip install` has put the files."""
    tree = Path(__file__).resolve().parents[2]
    if (tree / "config.yaml").is_file():
        return tree
    places = (Path(sysconfig.get_path("data")), Path(sys.prefix), tree)  # the last: pip install --target
    shared = [place / "share" / NAME for place in places]
    return next((place for place in shared if (place / "config.yaml").is_file()), tree)


HOME = _home()
