"use strict";
// Draws the curves of each stage on its own axes, and differences with their intervals. Plotly
// provides zoom, hover and the choice of variants.
const data = JSON.parse(document.getElementById("drawn").textContent);
const metric = document.getElementById("metric");
const by = document.getElementById("by");
// Okabe and Ito's colours, which colour-blind readers can distinguish too; then other dashes.
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b8b8b"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const BESIDE = 800; // from this width in pixels on, the legend stands beside the curves

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function clamped(value, low, high) {
  return Math.min(high, Math.max(low, value));
}

// Escapes text, because Plotly interprets tags in it.
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function shortened(name, most = 36) {
  const half = (most - 1) >> 1;
  return plain(name.length > most ? `${name.slice(0, half)}…${name.slice(-half)}` : name);
}

function axis(title) {
  return { title: { text: title, standoff: 6 }, gridcolor: style("--line"), zeroline: false, automargin: true };
}

function layout(plot, height, changes) {
  return {
    font: { color: style("--ink"), family: "system-ui, sans-serif", size: 13 },
    paper_bgcolor: style("--paper"),
    plot_bgcolor: style("--paper"),
    width: plot.clientWidth,
    height,
    hoverlabel: { bgcolor: style("--shade"), font: { color: style("--ink") } },
    ...changes,
  };
}

function show(plot, traces, arrangement, options = {}) {
  plot.style.height = `${arrangement.height}px`;
  Plotly.react(plot, traces, arrangement, { displaylogo: false, ...options });
}

// A variant's curve, with a band from the lowest to the highest value if it has several runs.
function curve(variant, index, most) {
  const points = variant.metrics[metric.value];
  const x = points[by.value];
  const color = COLOURS[index % COLOURS.length];
  const dash = DASHES[Math.floor(index / COLOURS.length) % DASHES.length];
  const several = variant.runs > 1;
  const name = shortened(variant.name, most);
  const group = { x, legendgroup: variant.name };
  const spread = several
    ? "<br>from %{customdata[0]:.5~g} to %{customdata[1]:.5~g}, %{customdata[2]} runs"
    : "";
  const line = {
    ...group,
    name: several ? `${name} (${variant.runs})` : name,
    y: points.value,
    mode: x.length > 1 ? "lines" : "markers",
    line: { color, dash, width: 1.8 },
    customdata: several ? points.low.map((low, i) => [low, points.high[i], points.of[i]]) : null,
    hovertemplate: `${plain(variant.name)}<br>${by.value} %{x:.6~g}<br>%{y:.5~g}${spread}<extra></extra>`,
  };
  if (!several) return [line];
  if (x.length === 1) {
    const array = points.high.map((high, i) => high - points.value[i]);
    const arrayminus = points.low.map((low, i) => points.value[i] - low);
    return [{ ...line, error_y: { array, arrayminus, color, symmetric: false } }];
  }
  const edge = { ...group, mode: "lines", line: { width: 0 }, showlegend: false, hoverinfo: "skip" };
  const fill = { fill: "tonexty", fillcolor: `${color}33` };
  return [{ ...edge, y: points.low }, { ...edge, ...fill, name: "band", y: points.high }, line];
}

function level([name, value], index) {
  return {
    type: "line",
    layer: "below",
    xref: "paper",
    x0: 0,
    x1: 1,
    y0: value,
    y1: value,
    line: { color: style("--faint"), width: 1.6, dash: name === "chance" ? "dot" : "dash" },
    name: `${shortened(name)}: ${value.toPrecision(3)}`,
    showlegend: true,
    legendrank: 2000 + index, // below the variants
  };
}

function drawStage(stage, plot) {
  const variants = stage.variants.filter((variant) => metric.value in variant.metrics);
  const levels = Object.entries(stage.levels[metric.value] || {});
  const several = variants.some((variant) => variant.runs > 1);
  const width = plot.clientWidth;
  const beside = width >= BESIDE;
  const most = beside ? 36 : clamped(Math.floor((width - 150) / 7.5), 16, 36);
  const traces = variants.flatMap((variant, i) => curve(variant, i, most));
  const shapes = levels.map(level);
  const names = [...traces.filter((t) => t.showlegend !== false), ...shapes].map((t) => t.name);
  const longest = Math.max(...names.map((name) => name.length));
  const rows = beside ? 0 : Math.ceil(names.length / Math.max(1, Math.floor((width - 68) / (50 + 7 * longest))));
  const below = 22 * rows + (several ? 24 : 0);
  const height = beside ? clamped(100 + 20 * names.length, 460, 760) : 380 + clamped(below, 22, 500);
  const margin = { l: 56, r: 12, t: 36, b: beside ? 48 : 66 + below };
  const under = { orientation: "h", x: 0, yanchor: "top" };
  const legend = beside ? {} : { ...under, y: -62 / (height - margin.t - margin.b) };
  const text = `line: mean of the runs (n),${beside ? "<br>" : " "}band: lowest to highest`;
  const title = several ? { title: { text, side: "top", font: { size: 12 } } } : {};
  const include = levels.map(([, value]) => value);
  show(plot, traces, layout(plot, height, {
    margin,
    showlegend: true,
    legend: { tracegroupgap: 0, ...legend, ...title },
    shapes,
    xaxis: axis(by.value),
    yaxis: { ...axis(metric.value), autorangeoptions: { include } },
  }));
}

function drawCurves() {
  const plots = [...document.querySelectorAll(".stage .plot")];
  data.stages.forEach((stage, i) => {
    const has = stage.variants.some((variant) => metric.value in variant.metrics);
    plots[i].closest("figure").hidden = !has;
  });
  data.stages.forEach((stage, i) => {
    if (!plots[i].closest("figure").hidden) drawStage(stage, plots[i]);
  });
}

const KINDS = [
  { name: "over seeds", low: "seeds_low", high: "seeds_high", symbol: "circle", shift: -0.24 },
  { name: "over test examples", low: "examples_low", high: "examples_high", symbol: "square", shift: 0 },
  { name: "over both", low: "both_low", high: "both_high", symbol: "triangle-up", shift: 0.24 },
];

// Points with their intervals; a point is hollow if its interval contains 0 or is missing.
function intervals(panel) {
  const colour = { color: style("--ink") };
  const hover = (row, kind) => `${plain(row.row)}, ${kind}<br>%{x:+.4~g}<br>${row.reading}<extra></extra>`;
  const traces = KINDS.map((kind) => {
    const rows = panel.rows.flatMap((row, i) => (row[kind.low] === null ? [] : [[row, i]]));
    const crosses = (row) => row[kind.low] <= 0 && row[kind.high] >= 0;
    return {
      name: kind.name,
      mode: "markers",
      x: rows.map(([row]) => row.difference),
      y: rows.map(([row, i]) => i + (KINDS.every((one) => row[one.low] !== null) ? kind.shift : 0)),
      error_x: {
        array: rows.map(([row]) => row[kind.high] - row.difference),
        arrayminus: rows.map(([row]) => row.difference - row[kind.low]),
        symmetric: false,
        thickness: 1.6,
        width: 4,
        ...colour,
      },
      marker: { size: 9, symbol: rows.map(([row]) => kind.symbol + (crosses(row) ? "-open" : "")), ...colour },
      hovertemplate: rows.map(([row]) => hover(row, kind.name)),
    };
  });
  const bare = panel.rows.flatMap((row, i) =>
    row.difference === null || KINDS.some((kind) => row[kind.low] !== null) ? [] : [[row, i]],
  );
  traces.push({
    name: "no interval",
    mode: "markers",
    x: bare.map(([row]) => row.difference),
    y: bare.map(([, i]) => i),
    marker: { size: 9, symbol: "diamond-open", ...colour },
    hovertemplate: bare.map(([row]) => hover(row, "no interval")),
  });
  return traces;
}

// low, high: range of the axis. The name stays inside the plot at either end.
function simpleMethod(panel, low, high) {
  const x = panel.level;
  const share = (x - low) / (high - low);
  const line = { color: style("--faint"), width: 1.6, dash: "dash" };
  const xanchor = share < 1 / 3 ? "left" : share > 2 / 3 ? "right" : "center";
  const name = { text: panel.method.replaceAll("_", " "), showarrow: false, font: { size: 12 }, xanchor };
  return {
    shapes: [{ type: "line", layer: "below", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line }],
    annotations: [{ ...name, x, y: 1, yref: "paper", yanchor: "bottom" }],
  };
}

function drawDifferences() {
  const plots = [...document.querySelectorAll(".forest .plot")];
  data.panels.forEach((panel, i) => {
    const most = plots[i].clientWidth < 480 ? 20 : 36;
    const labels = panel.rows.map((row) =>
      `${shortened(row.row, most)}${row.significant ? "*" : ""}<br><i>${row.reading}</i>`,
    );
    const ends = panel.rows.flatMap((row) => [row.difference, ...KINDS.flatMap((k) => [row[k.low], row[k.high]])]);
    ends.push(panel.level);
    const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
    const room = 0.06 * (high - low) || 1;
    const height = 78 + 46 * panel.rows.length;
    show(plots[i], intervals(panel), layout(plots[i], height, {
      margin: { l: 8, r: 16, t: 22, b: 48 },
      showlegend: false,
      ...(panel.level === null ? {} : simpleMethod(panel, low, high)),
      xaxis: {
        ...axis(`difference, ${panel.lower_is_better ? "← better" : "better →"}`),
        range: [low - room, high + room],
        zeroline: true,
        zerolinecolor: style("--ink"),
        zerolinewidth: 1.6,
      },
      yaxis: {
        ...axis(""),
        range: [panel.rows.length - 0.5, -0.5],
        tickvals: labels.map((_, row) => row),
        ticktext: labels,
        fixedrange: true,
      },
    }), { displayModeBar: false });
  });
}

function draw() {
  if (metric) drawCurves();
  drawDifferences();
}

for (const choice of [metric, by]) choice?.addEventListener("change", drawCurves);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
const main = document.querySelector("main");
let drawnAt = main.clientWidth;
draw();
new ResizeObserver(() => {
  if (main.clientWidth === drawnAt) return; // only its height has changed, by the plots
  drawnAt = main.clientWidth;
  draw();
}).observe(main);
