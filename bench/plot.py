"""plot.py RESULT.json OUTFOLDER -> PNGs of what was measured; what was not measured is left out."""

import io
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from goals import COMPARED, FLOOR_NAMES, GCM
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from PIL import Image
from report import growth_of

BARS = {
    "small 2B c1": "2 B, 1 connection",
    "small 2B c64": "2 B, 64 connections",
    "close 2B c16": "Connection: close, 16",
    "ws c100": "100 websockets",
}
OURS = "#1f5fa8"
COLOURS = {
    "direct": "#c8c8c8",
    "sshd": "#8fb996",
    GCM[0]: "#4f8f5b",
    COMPARED: "#e8a33d",
    GCM[1]: "#b8741a",
}
ORDER = ["direct", "sshd", GCM[0], COMPARED, GCM[1]]
INK = "#333333"
CPU = "server_cpu_s_per_1000"

plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.titleweight": "bold",
        "axes.edgecolor": "#999999",
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "legend.frameon": False,
    }
)


def colour(target):
    return COLOURS.get(target, OURS)


def median(figures, key):
    v = figures.get(key)
    return v["median"] if isinstance(v, dict) else None


def short(x):
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.3g}"


def plain(axis):
    """Numbers as people write them, also on logarithmic axes."""
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def save(fig, folder, name):
    """A picture of few colours is a third of the size."""
    path, picture = folder / f"{name}.png", io.BytesIO()
    fig.savefig(picture, dpi=100)
    plt.close(fig)
    Image.open(picture).convert("RGB").quantize(64).save(path, optimize=True)
    print(path)


def in_order(targets):
    """Servers first, then the floors."""
    return [t for t in targets if t not in FLOOR_NAMES] + [t for t in ORDER if t in targets]


def bars(results, folder, name, label, series, log=False):
    """One panel of horizontal bars for each scenario; series is {figure: its name, or None if there is but one}."""
    scenarios = [s for s in BARS if s in results]
    # What has no such figure has no bar: the origin by itself has no server to take CPU.
    targets = in_order({t: None for s in scenarios for t, f in results[s].items() if any(median(f, k) for k in series)})
    if not targets:
        return
    rows = -(-len(scenarios) // 2)
    height = 0.9 + len(targets) * len(series) * 0.2
    fig, axes = plt.subplots(
        rows, min(2, len(scenarios)), figsize=(9, rows * height + 0.3), squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(scenarios) :]:
        ax.set_visible(False)
    for ax, scenario in zip(axes.flat, scenarios):
        panel(ax, results[scenario], targets, series, log)
        ax.set_title(BARS[scenario], loc="left")
        ax.set_xlabel(label)
    save(fig, folder, name)


def panel(ax, figures, targets, series, log):
    width = 0.8 / len(series)
    known = [v for t in targets for key in series if (v := median(figures.get(t, {}), key))]
    for n, (key, words) in enumerate(series.items()):
        for row, target in enumerate(targets):
            value = median(figures.get(target, {}), key)
            y = row + (n - (len(series) - 1) / 2) * width
            if not value:
                continue
            ax.barh(y, value, width * 0.9, color=colour(target), alpha=1 if n == 0 else 0.55)
            text = short(value) if words is None else f"{short(value)} {words}"
            ax.annotate(text, (value, y), (3, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(range(len(targets)), targets)
    ax.invert_yaxis()
    if log and known:
        ax.set_xscale("log")
        ax.set_xlim(min(known) / 2, max(known) * 6)
    elif known:
        ax.set_xlim(0, max(known) * 1.2)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    plain(ax.xaxis)
    ax.tick_params(axis="y", length=0)


def steps_of(results, kind):
    """{target: [(n, figures)]} of the scenarios "growth KIND n"."""
    out = {}
    for scenario, targets in results.items():
        growth = growth_of(scenario)
        if growth and growth[0] == f"growth {kind}":
            for target, figures in targets.items():
                out.setdefault(target, []).append((growth[1], figures))
    return {t: sorted(steps, key=lambda s: s[0]) for t, steps in out.items()}


def line(ax, steps, key, **style):
    points = [(n, v["median"], v["min"], v["max"]) for n, f in steps if isinstance(v := f.get(key), dict)]
    if not points:
        return
    x, y, low, high = zip(*points)
    ax.plot(x, y, marker="o", markersize=4, **style)
    ax.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)


def growth(results, folder, name, kind, label, panels, log_x=True):
    """One panel for each (title, {figure: line style}, logarithmic); a line for each target."""
    targets = steps_of(results, kind)
    if not targets:
        return
    columns = 2 if len(panels) == 4 else len(panels)
    rows = len(panels) // columns
    size = (9 if columns == 3 else 8, 3 * rows + 0.3)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax, (title, figures, log_y) in zip(axes.flat, panels):
        for target in in_order(targets):
            for key, style in figures.items():
                line(ax, targets[target], key, color=colour(target), linestyle=style, label=target)
        ax.set_title(title, loc="left")
        ax.set_xlabel(label)
        if log_x:
            ax.set_xscale("log")
            xs = sorted({n for steps in targets.values() for n, _ in steps})
            ax.set_xticks(xs)
            ax.tick_params(axis="x", labelrotation=45)  # the last ones are close to each other
            ax.minorticks_off()
        else:
            ax.xaxis.set_major_locator(MaxNLocator(5))
        if log_y:
            ax.set_yscale("log")
        else:
            highest = max((max(points.get_ydata()) for points in ax.lines), default=0)
            ax.set_ylim(0, highest * 1.25 or 1)
            ax.yaxis.set_major_locator(MaxNLocator(5))
        plain(ax.xaxis)
        plain(ax.yaxis)
        ax.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        ax.set_axisbelow(True)
    if len(targets) > 1:
        handles, names = axes.flat[0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside upper center", ncols=len(names))
    save(fig, folder, name)


def draw(results, folder):
    bars(results, folder, "requests", "requests or messages per second", {"rate": None})
    bars(results, folder, "latency", "milliseconds", {"p50_ms": "p50", "p99_ms": "p99"}, log=True)
    bars(results, folder, "cpu", "CPU seconds of the server per 1,000", {CPU: None})
    rate = ("requests/s", {"rate": "-"}, False)
    latency = ("latency, ms: p50, and p99 dotted", {"p50_ms": "-", "p99_ms": ":"}, True)
    cost = ("CPU s per 1,000 requests", {CPU: "-"}, False)
    idle = ("cores used while idle", {"idle_cpu_cores": "-"}, False)
    each = ("KiB for each client", {"rss_KiB_per_client": "-"}, False)
    growth(results, folder, "connections", "connections", "connections", [rate, latency, cost])
    growth(results, folder, "tunnels", "tunnels", "tunnels, 64 connections", [rate, cost])
    growth(results, folder, "idle", "idle", "idle clients", [rate, cost, each, idle], log_x=False)


def main():
    result, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    draw(json.loads(result.read_text())["results"], folder)


if __name__ == "__main__":
    main()
