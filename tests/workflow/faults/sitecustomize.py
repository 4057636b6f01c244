"""Strikes jobs of the workflow as a test asks: put on the path, Python imports it at every start.

FAULTS names a JSON file {"<stage>/<arm, scenario, table or day>": how}. A stage is struck after it has computed
everything and before its outputs are moved into place, the worst moment. How: `kill`, `memory`, `raise`,
`remove <path>`; `… once` strikes at the first attempt only.
"""

import importlib.abc
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

STAGES = "pipeline.core.stages"


def strike(how):
    what, _, path = how.partition(" ")
    if what == "remove":
        Path(path).unlink()
        return
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "memory":
        raise MemoryError("Unable to allocate 1.0 TiB")
    raise RuntimeError("this arm\n diverges")


def watch(module):
    """Have every stage look up, when it has done its work, whether it is to be struck."""
    load = module.Stage.load

    def watched(stage):
        function = load(stage)

        def run(job, settings, log):
            result = function(job, settings, log)
            file = Path(os.environ["FAULTS"])
            facts = job.facts
            named = facts["wildcards"].get("table") or facts["wildcards"].get("day")
            here = facts.get("arm") or facts.get("scenario") or named
            how = json.loads(file.read_text()).get(f"{job.stage}/{here}")
            if how and how.endswith(" once"):
                mark = file.with_name(f"struck.{job.stage}.{facts.get('scenario')}.{here}")
                how = None if mark.exists() else how.removesuffix(" once")
                mark.touch()
            if how:
                strike(how)
            return result

        return run

    module.Stage.load = watched


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != STAGES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def then_watch(module):
            execute(module)
            watch(module)

        spec.loader.exec_module = then_watch
        return spec


if os.environ.get("FAULTS"):
    sys.meta_path.insert(0, Finder())
