"use strict";
// Draws the chosen metric of every run; Plotly does the zoom, the hover and the choice of runs.
const curves = JSON.parse(document.getElementById("curves").textContent);
const metric = document.getElementById("metric");
const by = document.getElementById("by");
const plot = document.getElementById("plot");
const groups = [...new Set(curves.runs.map((run) => run.group))];
// Okabe and Ito's colours, told apart by colour-blind readers too; then other dashes.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b8b8b"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
// With more runs than these the legend names rows, whose runs are switched together.
const NAMED = 20;
const byRow = curves.runs.length > NAMED;

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function clamped(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

function shortened(name) {
  return name.length > 36 ? `${name.slice(0, 17)}…${name.slice(-18)}` : name;
}

function trace(run, index, shown) {
  const found = run.metrics[metric.value];
  const place = groups.indexOf(run.group);
  return {
    name: shortened(byRow ? run.group : run.name),
    legendgroup: run.group,
    showlegend: !byRow || shown.findIndex((other) => other.group === run.group) === index,
    x: found[by.value],
    y: found.value,
    mode: found.value.length > 1 ? "lines" : "markers",
    line: {
      color: COLOURS[place % COLOURS.length],
      dash: DASHES[Math.floor(place / COLOURS.length) % DASHES.length],
      width: 1.8,
    },
    hovertemplate: `${run.name}<br>${by.value} %{x:.6~g}<br>%{y:.5~g}<extra></extra>`,
  };
}

function draw() {
  const narrow = window.innerWidth < 600;
  const shown = curves.runs.filter((run) => metric.value in run.metrics).map(trace);
  // Higher with more names, which a narrow page has below the plot.
  const names = shown.filter((run) => run.showlegend).length;
  const height = narrow ? clamped(400 + 26 * names, 520, 960) : clamped(100 + 20 * names, 460, 760);
  plot.style.height = `${height}px`;
  const axis = { gridcolor: style("--line"), zerolinecolor: style("--line"), automargin: true };
  const layout = {
    font: { color: style("--ink"), family: "system-ui, sans-serif", size: 13 },
    paper_bgcolor: style("--paper"),
    plot_bgcolor: style("--paper"),
    height,
    margin: { l: 56, r: 12, t: 36, b: 48 },
    showlegend: true,
    legend: {
      groupclick: byRow ? "togglegroup" : "toggleitem",
      tracegroupgap: 0,
      ...(narrow ? { orientation: "h", y: -0.3 } : { orientation: "v" }),
    },
    hoverlabel: { bgcolor: style("--shade"), font: { color: style("--ink") } },
    xaxis: { ...axis, title: { text: by.value } },
    yaxis: { ...axis, title: { text: metric.value } },
  };
  Plotly.react(plot, shown, layout, { responsive: true, displaylogo: false });
}

metric.addEventListener("change", draw);
by.addEventListener("change", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
