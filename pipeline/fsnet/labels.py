"""Names of FSNet's metrics, kinds of methods and figures, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.figures import BLUE, GREY, INK, VERMILION

# SD: standard deviation of the target's training rows; each figure's heading states it in physical units.
METRICS = {
    "mse": "MSE [SD²]",
    "mae": "MAE [SD]",
    "rmse": "RMSE [SD]",
    "mape": "MAPE [%]",
    "smape": "sMAPE [%]",
    "wape": "WAPE [%]",
    "mape_z": "MAPE of z-scores [%]",
    "skill": "Skill against rls [1]",
    "coverage90": "Coverage of 90 % intervals [1]",
    "width90": "Width of 90 % intervals [SD]",
    "mse_first50": "MSE, first 50 after a recurrence [SD²]",
    "mse_first100": "MSE, first 100 after a recurrence [SD²]",
    "mse_new100": "MSE, first 100 of a new regime [SD²]",
}
SHORT = {
    "mse_first50": "first 50 [SD²]",
    "mse_first100": "first 100 [SD²]",
    "mse_new100": "new 100 [SD²]",
    "coverage90": "cover 90 % [1]",
    "skill": "skill [1]",
    "mape_z": "MAPE, z [%]",
}
HIGHER = frozenset({"skill"})
UNRANKED = frozenset({"coverage90", "width90"})  # best where coverage is 90 %, neither more nor less
COSTS = {"train_s": "Training [s]", "ms_per_step": "Online [ms/step]", "peak_rss_mb": "Peak memory [MB]"}
KINDS = {
    "arm without memory": BLUE,
    "arm with memory": VERMILION,
    "aggregate of arms": INK,
    "baseline": GREY,
}
UNITS = {"degC": "°C", "degF": "°F", "percent": "%", "1": "no unit"}


def kind(entry: Mapping[str, Any]) -> str:
    """Kind of an arm by its settings; an entry without settings is a baseline."""
    settings = entry.get("settings")
    if settings is None:
        return "baseline"
    if (settings.get("ensemble") or {}).get("kind", "none") != "none":
        return "aggregate of arms"
    remembers = (settings.get("memory") or {}).get("kind", "none") != "none"
    return "arm with memory" if remembers or (settings.get("regime") or {}).get("memory") else "arm without memory"


ZH = {
    # headings
    "Errors": "各方法误差",
    "Improvement": "相对改进",
    "Radar": "综合雷达图",
    "Time and memory": "时间与内存开销",
    "Table": "结果表",
    "Paired comparisons": "配对比较",
    "Skill by horizon": "各预测步长的技巧分",
    "Cumulative error": "累积误差与记忆触发",
    "Memory slots": "记忆槽随时间的变化",
    "After a recurrence": "旧状态重现之后的误差",
    "Skill in all scenarios": "各场景的技巧分",
    "All figures": "图表总览",
    "scenario {}": "场景 {}",
    "leaky: has learnt labels that it is scored on": "leaky（标签泄漏：评分前已学到部分标签）",
    "Data: {}": "数据：{}",
    "asked for: {}": "原定：{}",
    "{} seeds": "{} 个随机种子",
    "1 seed": "1 个随机种子",
    "{} forecasts": "{} 次预测",
    "window {}, horizon {}": "窗口 {}，预测步长 {}",
    "SD = {}, of the training rows": "SD = {}（训练段标准差）",
    "SD: standard deviation of the training rows": "SD：训练段标准差",
    "{} channels": "{} 个通道",
    "simulated": "模拟数据",
    "no unit": "无量纲",
    # kinds
    "arm without memory": "无记忆的模型",
    "arm with memory": "有记忆的模型",
    "aggregate of arms": "模型集成",
    "baseline": "基线",
    # axes
    "Method": "方法",
    "Skill against rls [1]": "相对 rls 的技巧分 [1]",
    "skill [1]": "技巧分 [1]",
    "cover 90 % [1]": "90 % 覆盖率 [1]",
    "Coverage of 90 % intervals [1]": "90 % 区间覆盖率 [1]",
    "Width of 90 % intervals [SD]": "90 % 区间宽度 [SD]",
    "MAPE of z-scores [%]": "z 分数的 MAPE [%]",
    "MAPE, z [%]": "MAPE (z) [%]",
    "MSE, first 50 after a recurrence [SD²]": "MSE，重现后前 50 步 [SD²]",
    "MSE, first 100 after a recurrence [SD²]": "MSE，重现后前 100 步 [SD²]",
    "MSE, first 100 of a new regime [SD²]": "MSE，新状态前 100 步 [SD²]",
    "first 50 [SD²]": "重现前 50 步 [SD²]",
    "first 100 [SD²]": "重现前 100 步 [SD²]",
    "new 100 [SD²]": "新状态前 100 步 [SD²]",
    "Training [s]": "训练 [s]",
    "Online [ms/step]": "在线 [ms/步]",
    "Peak memory [MB]": "内存峰值 [MB]",
    "Improvement over {} [%]": "相对 {} 的改进 [%]",
    "Change of the error [% of the second method's]": "误差变化 [占后一方法的 %]",
    "against": "对比",
    "Horizon [steps of {}]": "预测步长 [每步 {}]",
    "Skill against rls [%]": "相对 rls 的技巧分 [%]",
    "Time in the test period [steps of {}]": "测试段时间 [每步 {}]",
    "Running mean of the squared error [SD²]": "平方误差的累积均值 [SD²]",
    "Steps with a firing [%]": "触发步占比 [%]",
    "firings": "触发",
    "Time since the regime came back [steps of {}]": "状态重现后的时间 [每步 {}]",
    "Squared error [SD²]": "平方误差 [SD²]",
    "linear learner": "线性学习器",
    "deep arms": "深度模型",
    "Slot": "槽",
    "regime": "状态",
    "weight of the slot [1]": "槽权重 [1]",
    "use of the slot [1]": "槽使用量 [1]",
    # notes
    "Ranked by the first column, best on top.": "按第一列排序，最优在上。",
    "Whiskers: 95 % Student interval of the mean of the values.": "误差线：各取值均值的 95 % t 区间。",
    "One value: no whiskers.": "仅一个取值，无误差线。",
    "Right of zero is better than the reference; {}. Triangles: bars that are cut.": (
        "零线右侧优于参照；指标：{}。三角：条形被截断。"
    ),
    "Spokes: error of {} / error of the method; a point outside the dashed ring is better.": (
        "辐条为 {} 误差与该方法误差之比：虚线圈外更优。"
    ),
    "Seconds and milliseconds of CPU on one thread; logarithmic axes.": "单线程 CPU 时间；对数坐标。",
    "A method without training of its own starts from another arm's, or needs none.": (
        "没有训练时间的方法从其他模型的训练结果开始，或无需训练。"
    ),
    "Mean ± standard deviation over seeds; bold: best of the column.": "种子间均值 ± 标准差；粗体为该列最优。",
    "Lines: 95 % interval of a paired block bootstrap over time. Left of zero, the first of the two is better.": (
        "线段为按时间分块配对自助法的 95 % 区间；零线左侧表示前者更优。"
    ),
    "Percent of the error of rls that a method saves at each horizon; negative: worse than rls.": (
        "各步长上相对 rls 减少的误差百分比；负值为更差。"
    ),
    "Percent of the error of rls that a method saves; negative: worse than rls.": (
        "相对 rls 减少的误差百分比；负值为更差。"
    ),
    "Means over seeds. Strips: how often the memory fired.": "种子均值；下方色带为记忆触发频率。",
    "Means over seeds.": "种子均值。",
    "Ticks: firings of the first seed. Dashed lines: regimes that come back; dotted: new ones (first seed).": (
        "短线为首个种子的触发；虚线为旧状态重现，点线为新状态（首个种子）。"
    ),
    "First seed. Strip on top: the true regime.": "首个种子；顶部色带为真实状态。",
    "First seed.": "首个种子。",
    "{}: {} of {} slots used": "{}：已用 {} / {} 槽",
    "Means over all recurrences in the test period, five steps each; bands: 95 % interval over seeds.": (
        "测试段内所有重现的均值，每五步一点；阴影为种子间 95 % 区间。"
    ),
}
