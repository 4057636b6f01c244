"""R-STMRF's DAG in dry runs: what is planned, and what a change reruns."""

import re

TABLE = "results/light/rstmrf_ablation.json"


def planned(project, *arguments):
    code, text = project.call("-n", *arguments)
    assert code == 0, text
    return text


def test_the_light_table_needs_no_download_and_truth_is_read_by_compare_alone(new_project):
    text = planned(new_project(), TABLE, "results/light/rstmrf_memory.json")
    assert "fetch_" not in text
    blocks = re.split(r"\n(?=(?:local)?rule )", text)
    readers = {
        re.match(r"(?:local)?rule (\w+)", block)[1]
        for block in blocks
        if re.search(r"^ {4}input: .*truth\.zarr", block, re.M)
    }
    assert readers == {"rstmrf_compare"}
    days = re.findall(r"output: results/light/rstmrf/iri/(\d{8})\.zarr", text)
    assert sorted(days) == ["20240510", "20240911"]


def test_the_full_table_makes_six_days_of_maps_once_and_the_named_arms(new_project):
    text = planned(new_project(), "results/rstmrf_ablation.json", "results/rstmrf_memory.json")
    days = re.findall(r"output: results/rstmrf/iri/(\d{8})\.zarr", text)
    storms = ["20240510", "20240511", "20240512", "20240911", "20240912", "20240913"]
    assert [day for day in sorted(days) if day in storms] == storms and len(days) == len(set(days))
    for arm in ("seed", "corrected", "assimilate"):
        assert f"results/rstmrf/storms/osse/{arm}/estimates.zarr" in text
    for arm in ("default", "cpu_8gb", "gpu_4gb", "combined"):
        assert f"results/rstmrf/storms/tradeoffs/{arm}/models" in text


def test_tec_files_become_one_store(new_project):
    text = planned(new_project(), "results/rstmrf/code_gim/gim/tec.zarr")
    assert re.search(r"rule rstmrf_tec:\n {4}input: \S*codg0080\.20i\.Z, \S*codg0090\.20i\.Z", text), text


def test_a_job_on_a_world_of_a_month_asks_for_the_memory_that_it_was_measured_to_take(new_project):
    text = planned(new_project(), "results/rstmrf_month.json")
    asked = {}
    for block in re.split(r"\n(?=(?:local)?rule )", text):
        if re.search(r"^ {4}wildcards: .*scenario=month", block, re.M):
            asked[re.match(r"(?:local)?rule rstmrf_(\w+)", block)[1]] = int(re.search(r"mem_mb=(\d+)", block)[1])
    for stage, measured in {"baselines": 3720, "train": 4380, "evaluate": 4160}.items():
        assert measured < asked[stage] < 2 * measured, (stage, asked)
