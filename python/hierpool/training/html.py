"""One self-contained HTML file with figures: Plotly's JavaScript is in it, so that it needs no server and no network.

Figures are Plotly's JSON, ``{"data": [...], "layout": {...}}``; only the JavaScript of the package plotly is used.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.training.files import write_atomic

Figure = dict[str, Any]
PALETTE = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
)  # fmt: skip
NOT_WRITTEN = "report.html is not written, since plotly is not installed: pip install 'hierpool[report]'"
_MAX_LINES = 300  # edges that are drawn with a width of their own
_AXIS = {"visible": False}
_MARGIN = {"l": 50, "r": 15, "t": 40, "b": 45}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 0 auto; max-width: 1200px; padding: 0 16px 40px }}
h1 {{ font-size: 1.6em }} h2 {{ font-size: 1.2em; margin: 1.6em 0 .3em }}
pre {{ background: #f2f2f2; padding: 10px; overflow-x: auto; border-radius: 4px }}
.row {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 8px }}
.figure {{ min-width: 0; overflow: hidden }}
p {{ white-space: pre-line }}
select {{ font: inherit; padding: 3px; max-width: 100% }}
</style>
<script>{plotly}</script></head><body>
<h1>{title}</h1>
{facts}
<div id="panels"></div>
<h2>The same run again</h2><pre id="command">{command}</pre>
<script>
const panels = {panels};
const settings = {{responsive: true, scrollZoom: true, displayModeBar: false}};
for (const panel of panels) {{
  const place = document.getElementById("panels").appendChild(document.createElement("section"));
  place.appendChild(document.createElement("h2")).textContent = panel.title;
  place.appendChild(document.createElement("p")).textContent = panel.text;
  const row = document.createElement("div");
  row.className = "row";
  const show = (number) => {{
    for (const old of row.querySelectorAll(".figure")) Plotly.purge(old);
    row.replaceChildren();
    const figures = panel.choices[number].figures;
    const boxes = figures.map(() => row.appendChild(document.createElement("div")));
    boxes.forEach((box, i) => {{  // when all are there, and have their widths
      box.className = "figure";
      Plotly.newPlot(box, figures[i].data, figures[i].layout, settings);
    }});
  }};
  if (panel.choices.length > 1) {{
    const menu = place.appendChild(document.createElement("select"));
    menu.setAttribute("aria-label", panel.title);
    panel.choices.forEach((choice, i) => menu.add(new Option(choice.label, i)));
    menu.onchange = () => show(+menu.value);
  }}
  place.appendChild(row);
  show(0);
}}
</script></body></html>
"""


class Choice(NamedTuple):
    """Figures that are shown together."""

    label: str
    figures: list[Figure]


class Panel(NamedTuple):
    """A part of the page; of several choices, a menu shows one."""

    title: str
    text: str
    choices: list[Choice]


def is_possible() -> bool:
    """Whether plotly is installed."""
    return find_spec("plotly") is not None


def write_report(path: Path, title: str, facts: Sequence[str], panels: Sequence[Panel], command: str) -> Path:
    """Write the page.

    Args:
        path: path of the HTML file.
        title: title of the page.
        facts: lines under the title.
        panels: parts of the page.
        command: the command that repeats the run.

    Raises:
        ImportError: plotly is not installed.
        OSError: the file could not be written; an existing file is unchanged.
    """
    contents = [
        {"title": p.title, "text": p.text, "choices": [choice._asdict() for choice in p.choices]}
        for p in panels
    ]
    text = _PAGE.format(
        title=html.escape(title),
        facts="".join(f"<p>{html.escape(line)}</p>" for line in facts),
        command=html.escape(command),
        plotly=require("plotly.offline", "report").get_plotlyjs(),
        panels=json.dumps(contents, separators=(",", ":")).replace("</", "<\\/"),
    )
    write_atomic(path, text.encode())
    return path


def layout(title: str, **options: Any) -> dict[str, Any]:
    """The layout of a figure."""
    base = {
        "title": {"text": title, "font": {"size": 14}},
        "margin": _MARGIN,
        "height": 360,
        "hovermode": "closest",
    }
    return base | options


def curves(history: Sequence[Sequence[dict[str, float]]], titles: dict[str, str], step: str) -> list[Figure]:
    """A figure for each recorded value: a line for each fold, and their mean if there are several."""
    figures = []
    for key, title in titles.items():
        lines = [[round(row[key], 6) for row in rows] for rows in history if rows and key in rows[0]]
        if not lines:
            continue
        faint = {"width": 1, "color": "#9ecae1"} if len(lines) > 1 else {"width": 2, "color": PALETTE[0]}
        data: list[dict[str, Any]] = [
            {"y": y, "x": [*range(1, len(y) + 1)], "mode": "lines", "name": f"fold {i + 1}", "line": faint}
            for i, y in enumerate(lines)
        ]
        if len(lines) > 1:
            length = min(map(len, lines))
            mean = torch.tensor([y[:length] for y in lines]).mean(0).tolist()
            data.append({"y": mean, "x": [*range(1, length + 1)], "mode": "lines", "name": "mean"})
            data[-1]["line"] = {"width": 3, "color": PALETTE[0]}
        figures.append(
            {"data": data, "layout": layout(title, showlegend=False, xaxis={"title": {"text": step}})}
        )
    return figures


def matrix(counts: Tensor, title: str, rows: str, columns: str) -> Figure:
    """A table of counts, ``[rows, columns]``, coloured by the share of the row."""
    share = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    trace = {
        "type": "heatmap", "z": share.tolist(), "text": counts.tolist(), "zmin": 0, "zmax": 1,
        "colorscale": [[0, "#f7fbff"], [1, "#4292c6"]],
        "hovertemplate": f"{rows} %{{y}}, {columns} %{{x}}: %{{text}}<extra></extra>", "showscale": False,
    }  # fmt: skip
    if counts.numel() <= 400:
        trace["texttemplate"] = "%{text}"
    axes = {
        "xaxis": {"title": {"text": columns}, "dtick": 1, "constrain": "domain"},
        "yaxis": {"title": {"text": rows}, "dtick": 1, "autorange": "reversed"},
    }
    if max(counts.shape) > 30:
        axes = {name: axis | {"dtick": 10} for name, axis in axes.items()}
    return {"data": [trace], "layout": layout(title, **axes)}


def network(
    position: Tensor, edges: Tensor, width: Tensor, marker: dict[str, Any], hover: Sequence[str], title: str
) -> Figure:
    """A graph to zoom and drag.

    Args:
        position: ``[N, 2]``.
        edges: int64 ``[2, E]``.
        width: width of each edge, ``[E]``. Beyond 300 edges, all have the same width.
        marker: Plotly's settings of the nodes.
        hover: text of each node.
        title: title of the figure.
    """
    x, y = position.t().tolist()
    pairs = edges.t().tolist()
    same = len(pairs) > _MAX_LINES or bool((width == width[:1]).all())
    groups = [(pairs, 1.0)] if same else [([pair], w) for pair, w in zip(pairs, width.tolist(), strict=True)]
    data: list[dict[str, Any]] = [
        {
            "x": [value for i, j in group for value in (round(x[i], 4), round(x[j], 4), None)],
            "y": [value for i, j in group for value in (round(y[i], 4), round(y[j], 4), None)],
            "mode": "lines", "hoverinfo": "skip", "line": {"color": "#aaaaaa", "width": w},
        }
        for group, w in groups
    ]  # fmt: skip
    nodes = {
        "x": [round(v, 4) for v in x],
        "y": [round(v, 4) for v in y],
        "mode": "markers",
        "marker": marker,
    }
    data.append(nodes | {"text": list(hover), "hovertemplate": "%{text}<extra></extra>"})
    square = {"xaxis": _AXIS, "yaxis": _AXIS | {"scaleanchor": "x"}}
    return {"data": data, "layout": layout(title, showlegend=False, dragmode="pan", height=420, **square)}
