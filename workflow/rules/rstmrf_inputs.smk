"""What the rules of R-STMRF take as inputs, looked up in the plan."""

from pipeline.rstmrf import periods


def rstmrf_days(wc):
    """Background maps of the days that a scenario's worlds need."""
    if plan.catalog[wc.dataset].source == "simulation":
        worlds = plan.leaf("prepare", "rstmrf", wc.root, wc.scenario)["worlds"]
        days = {day for name in worlds["names"] for day in periods.days(name, worlds["hours"])}
    else:
        days = set(periods.REAL_DAYS[wc.dataset])
    return [f"{wc.root}/rstmrf/iri/{day:%Y%m%d}.zarr" for day in sorted(days)]


def rstmrf_iri_settings(wc):
    """Settings of a day's maps, which all scenarios share."""
    base = plan.system(wc.root, "rstmrf").section.settings
    return {group: base[group] for group in ("iri", "weather")}


def rstmrf_table_estimates(wc):
    """Estimates of all arms of a table's scenarios: what the figures are drawn from."""
    had, _ = plan.available("rstmrf", wc.root, wc.table, mode())
    section = plan.system(wc.root, "rstmrf")
    return [
        f"{wc.root}/rstmrf/{choice.name}/{name}/{arm}/estimates.zarr"
        for name, choice in had.items()
        for arm in section.scenario(name).arms
    ]


def growing_with_world(amount):
    """Resource: `growing`, and 5 MB (measured: 4.0 to 5.4) for every hour that a world is longer than three days."""

    def megabytes(wc, attempt):
        hours = plan.leaf("prepare", "rstmrf", wc.root, wc.scenario)["worlds"]["hours"]
        return attempt * (amount + 5 * max(0, hours - 72))

    return megabytes
