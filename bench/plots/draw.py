"""Draw what bench/pictures.py asks for on stdin, as SVG files in a folder. Runs in an environment with Matplotlib."""

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

COLOURS = {"ours": "#1f6f8b", "floor": "#9a9a9a", "peer": "#d0a24c"}
# Told apart by their line and mark as well as by their colour.
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH = 7.6
# From here on a fraction says nothing.
WHOLE = 100


def main() -> None:
    folder = Path(sys.argv[1])
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.family": "sans-serif", "font.size": 9})
    for picture in json.load(sys.stdin):
        figure = _lines(picture) if picture["lines"] else _bars(picture)
        figure.savefig(folder / picture["file"], metadata={"Date": None, "Creator": None})
        plt.close(figure)


def _bars(picture: dict) -> plt.Figure:
    bars = picture["bars"]
    figure, axes = plt.subplots(figsize=(WIDTH, 0.95 + 0.34 * len(bars)), layout="constrained")
    places = range(len(bars))
    axes.barh(places, [bar["value"] for bar in bars], color=[COLOURS[bar["kind"]] for bar in bars], height=0.66)
    most = max((bar["high"] for bar in bars), default=0) or 1
    for place, bar in zip(places, bars, strict=True):
        axes.plot([bar["low"], bar["high"]], [place, place], color="black", linewidth=1.2)
        axes.plot([bar["low"], bar["high"]], [place, place], "|", color="black", markersize=6)
        text = f"{bar['value']:,.0f}" if bar["value"] >= WHOLE else f"{bar['value']:.2f}"
        axes.text(max(bar["value"], bar["high"]) + most * 0.012, place, text, va="center")
    axes.set_yticks(places, [bar["name"] for bar in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, most * 1.12)
    if picture["at_one"]:
        axes.axvline(1, color="black", linewidth=0.8, linestyle="--")
    return _finished(figure, axes, picture)


def _lines(picture: dict) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
    peers = 0
    for line in picture["lines"]:
        ours_or_floor = line["kind"] != "peer"
        colour = COLOURS[line["kind"]] if ours_or_floor else f"C{peers + 1}"
        style = "-" if line["kind"] == "ours" else "--" if ours_or_floor else ":"
        peers += not ours_or_floor
        rounds = range(1, len(line["values"]) + 1)
        width = 2.4 if line["kind"] == "ours" else 1.4
        axes.plot(rounds, line["values"], style, color=colour, label=line["name"], linewidth=width, marker=MARKS[peers])
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(1, max(len(line["values"]) for line in picture["lines"]) + 1))
    axes.set_ylabel(picture["axis"])
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return _finished(figure, axes, picture | {"axis": "round"})


def _finished(figure: plt.Figure, axes: plt.Axes, picture: dict) -> plt.Figure:
    axes.set_title(picture["title"], loc="left", fontsize=10)
    axes.set_xlabel(picture["axis"])
    axes.spines[["top", "right"]].set_visible(False)
    (axes.yaxis if picture["lines"] else axes.xaxis).set_major_formatter("{x:,.10g}")
    return figure


main()
