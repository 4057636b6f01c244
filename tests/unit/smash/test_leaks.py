"""What a whole fit has seen: other test windows leave memories, weights and stopping steps as they are, bit for bit."""

from dataclasses import replace

import numpy as np

from pipeline.core.stages import Job, run
from pipeline.core.store import read_json
from pipeline.smash import events, weights
from pipeline.smash.settings import STAGES, RunBaselines, Train

SMALL = {
    "encoder": {"cond_dim": 8, "layers": 1},
    "denoise": {"noises": 2},
    "training": {"steps": 30, "batch": 2, "save_every": 1, "patience": 2, "lr": 0.02, "lr_end": 0.01},
    "exact": {"epochs": 4, "validate_every": 1, "hidden": 8, "lr": 0.01},
    "baselines": {"samples": 8, "quantiles": 20, "errors": False, "catalogues": 0, "memories": [None, 0.5, 0.1]},
}


def edited(cat):
    """Every test event elsewhere, earlier in its window and of another mark; no other event is touched."""
    test = np.isin(cat.sequence, cat.sequences("test"))
    changed = replace(
        cat,
        t=np.where(test, 0.3 * cat.t, cat.t),
        xy=np.where(test[:, None], 5 * cat.xy + 40, cat.xy),
        mark=np.where(test, (cat.mark + 1) % cat.marks, cat.mark),
    )
    return events.finished(changed)


def fitted(cat, folder, arms):
    """Chosen memories with their validation scores, the fitted ETAS's text, and each arm's weights and steps."""
    folder.mkdir()
    cat.save(folder / "prepared.pkl")
    found = {}

    def stage(name, model, inputs, outputs, settings, **facts):
        chosen = model.model_validate({k: v for k, v in settings.items() if k in model.model_fields})
        paths = {key: str(folder / path) for key, path in outputs.items()}
        given = {"data": str(folder / "prepared.pkl"), **inputs}
        run(Job("smash", name, given, paths, chosen.model_dump(mode="json"), [0], facts=facts), STAGES[name])

    outputs = {"scores": "b.zarr", "fitted": "etas.json", "csep": "csep", "run": "baselines.run.json"}
    stage("baselines", RunBaselines, {}, outputs, SMALL, baselines=["etas"])
    found["etas"] = read_json(folder / "etas.json")
    del found["etas"]["attrs"]["cpu_s"]
    for arm in arms:
        settings = SMALL | {"model": {"kind": arm}}
        inputs = {"fitted": str(folder / "etas.json")} if arm == "exact" else {}
        stage("train", Train, inputs, {"weights": f"{arm}.safetensors", "run": f"{arm}.run.json"}, settings)
        found[arm] = weights.load(folder / f"{arm}.safetensors")
    return found


def test_other_test_windows_change_nothing_that_is_fitted_or_chosen(make, tmp_path):
    cat = make(sequences=(10, 3, 3), rate=1.5)
    other = edited(cat)
    assert not np.array_equal(other.xy, cat.xy) and other.meta["scaler"] == cat.meta["scaler"]
    a, b = (fitted(one, tmp_path / name, ("smash", "corrected", "exact")) for name, one in (("a", cat), ("b", other)))
    assert a["etas"]["attrs"]["memory"] == b["etas"]["attrs"]["memory"]
    assert set(a["etas"]["attrs"]["validation"]) == {"none", "0.5", "0.1"}  # there was a choice
    assert a["etas"] == b["etas"]
    for arm in ("smash", "corrected", "exact"):
        (states, attrs), (others, notes) = a[arm], b[arm]
        assert attrs == notes and attrs["steps"] > 0, arm
        for name, value in states[0].items():
            assert np.array_equal(value.numpy(), others[0][name].numpy()), (arm, name)
