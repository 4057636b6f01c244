"""Names of SMASH's metrics and kinds of methods, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.figures import BLUE, GREY, INK, VERMILION
from .slider import NOTE

METRICS = {
    "log_likelihood": "Log-likelihood, joint [nats/event]",
    "log_likelihood_time": "Log-likelihood of the time [nats/event]",
    "log_likelihood_location": "Log-likelihood of the place [nats/event]",
    "log_likelihood_mark": "Log-likelihood of the mark given time and place [nats/event]",
    "log_score_mark": "Log score of the mark given the time [nats]",
    "crps_time": "CRPS of the gap [time unit]",
    "crps_log_time": "CRPS of the log gap [1]",
    "energy_location": "Energy score of the place [place unit]",
    "energy_location_drawn": "Energy score of the place, drawn with the time [place unit]",
    "energy_joint": "Energy score of gap and place [training SD]",
    "brier": "Brier score of the mark [1]",
    "ece": "Calibration error of the mark [1]",
    "pit_ks": "Kolmogorov distance of the PIT [1]",
    "cs_time": "CS time (seed's) [1]",
    "cs_location": "CS location (seed's) [1]",
    "mae_time": "MAE of the median gap [time unit]",
    "location_error": "Location error [place unit]",
}
SHORT = {
    "log_likelihood": "joint [nats]",
    "log_likelihood_time": "time [nats]",
    "log_likelihood_location": "place [nats]",
    "log_likelihood_mark": "mark [nats]",
    "log_score_mark": "mark log score [nats]",
    "crps_time": "CRPS [time]",
    "energy_location": "energy [place]",
    "energy_location_drawn": "energy, drawn [place]",
    "brier": "Brier [1]",
    "pit_ks": "PIT KS [1]",
    "ece": "ECE [1]",
}
HIGHER = frozenset(name for name in METRICS if name.startswith("log_likelihood"))
UNRANKED = frozenset({"cs_time"})  # rewards forecasts that are too narrow
COSTS = {"train_s": "Training [CPU s]", "evaluate_s": "Scoring [CPU s]", "sampling_s": "Sampling [CPU s]"}
KINDS = {"score matching": BLUE, "exact likelihood": VERMILION, "ETAS": INK, "baseline": GREY}


def kind(name: str, entry: Mapping[str, Any]) -> str:
    """Kind of a method by its settings; ETAS stands apart from the other baselines."""
    settings = entry.get("settings")
    if settings is None:
        return "ETAS" if name == "etas" else "baseline"
    return "exact likelihood" if (settings.get("model") or {}).get("kind") == "exact" else "score matching"


ZH = {
    "Scores": "各方法得分",
    "Table": "结果表",
    "Cost": "计算成本",
    "Gains in log-likelihood": "对数似然的增益",
    "Calibration": "校准",
    "Rescaled gaps": "时间重标度残差",
    "Predicted density of the next place": "下一事件位置的预测密度",
    "Rate over one window": "一个窗口内的强度",
    "Consistency of next-day and next-week forecasts": "次日与次周预报的一致性",
    "Method": "方法",
    "score matching": "得分匹配",
    "exact likelihood": "精确似然",
    "baseline": "基线",
    "nominal level": "名义水平",
    "share inside": "覆盖比例",
    "PIT of the gap": "间隔的 PIT",
    "density": "密度",
    "confidence": "置信度",
    "accuracy": "准确率",
    "time": "时间",
    "place": "位置",
    "quantile of Exp(1)": "Exp(1) 分位数",
    "quantile of the rescaled gaps": "重标度间隔分位数",
    "difference [nats/event]": "差值 [nats/事件]",
    "joint": "联合",
    "mark": "标记",
    "calibrated": "理想校准",
    "events so far": "已发生事件数",
    "expected": "期望",
    "observed": "观测",
    "past events": "过去事件",
    "next event": "下一事件",
    "Score field": "得分场",
    "score": "得分",
    "samples": "样本",
    "Play": "播放",
    "Stop": "停止",
    "Predicted density through one window": "一个窗口内的预测密度",
    NOTE: "颜色：密度的 log10，五个数量级。线内含地图上 50、80、95 % 的概率。",
    "Seconds and quality of the samplers": "采样器的耗时与质量",
    "CPU seconds for 11,102 events × 300 samples": "11,102 个事件 × 300 个样本的 CPU 秒",
    "Langevin, conditions cached": "朗之万（缓存条件）",
    "exact gap and mark, place by ODE": "间隔与标记精确抽样，位置用 ODE",
    "quantile of what was observed": "观测值的分位数",
    "number": "事件数",
    "share of windows": "窗口比例",
    "Mean ± standard deviation over seeds; bold: best of the column.": "各种子均值 ± 标准差；粗体为该列最优。",
    **{label: label for label in METRICS.values()},
}
