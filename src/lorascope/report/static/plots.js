"use strict";
// One plot a panel: medians over seeds joined, single seeds beside them, what the pointer shows.

Report.makePlots = (changed) => {
  const view = document.getElementById("view");
  const drawn = Report.data.charts.map((chart, index) => {
    const section = document.querySelector(`[data-chart="${index}"]`);
    return { chart, section, panels: new Map() };
  });
  const reported = Report.data.charts.some((chart) => chart.reported.length);
  view.querySelector(".beside").hidden = !reported && Report.data.charts.every(({ kind }) => kind === "points");
  view.querySelector(".reported").hidden = !reported;
  view.addEventListener("change", changed);
  view.addEventListener("submit", (event) => event.preventDefault());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  let pending;
  addEventListener("resize", () => { clearTimeout(pending); pending = setTimeout(changed, 100); });

  Report.drawPlots = (visible) => {
    const look = theme();
    const axis = view.elements.axis.value;
    const seeds = view.elements.seeds.checked;
    const authors = reported && view.elements.reported.checked;
    for (const one of drawn) drawChart(one, visible, { look, axis, seeds, authors });
  };

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    return {
      ink: colour("--ink"), faint: colour("--faint"), line: colour("--line"), paper: colour("--paper"),
      palette: Array.from({ length: 8 }, (_, index) => colour(`--c${index}`)),
      ramp: Array.from({ length: 5 }, (_, index) => colour(`--r${index}`)),
      font: getComputedStyle(document.body).fontFamily,
    };
  }

  function colourOf(style, look) {
    if (!style) return look.ink;
    if (style.colour !== null) return look.palette[style.colour];
    const place = style.ramp * (look.ramp.length - 1);
    const low = Math.min(Math.floor(place), look.ramp.length - 2);
    const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    const [from, to] = [channels(look.ramp[low]), channels(look.ramp[low + 1])];
    return `rgb(${from.map((value, at) => Math.round(value + (to[at] - value) * (place - low))).join(",")})`;
  }

  // ---- runs -> panels -> lines -> points

  function panelsOf(chart, runs) {
    const panels = new Map();
    const cells = new Set();
    for (const run of runs) {
      if (chart.once && (run.status !== "ok" || cells.has(run.cell))) continue;
      cells.add(run.cell);
      const facets = chart.panel.map((field) => String(run[field] ?? ""));
      for (const [place, series] of chart.series.entries()) {
        const points = pointsOf(chart, series.field, run);
        if (!points.length) continue;
        const key = JSON.stringify(facets);
        if (!panels.has(key)) panels.set(key, { key, facets, lines: new Map() });
        const line = chart.line === "series" ? series.label : String(run[chart.line] ?? "");
        const apart = series.label && chart.line !== "series" ? `: ${series.label}` : "";
        const name = `${line}${apart}`;
        const label = `${labelOf(chart, line)}${apart}`;
        const { lines } = panels.get(key);
        if (!lines.has(name)) lines.set(name, { name, label, line, place, style: chart.styles[line], points: [] });
        lines.get(name).points.push(...points);
      }
    }
    const names = Object.keys(chart.styles);
    const sorted = [...panels.values()].sort((a, b) => {
      const differs = a.facets.findIndex((value, index) => value !== b.facets[index]);
      return Report.compare(a.facets[differs], b.facets[differs]);
    });
    for (const panel of sorted) {
      panel.lines = [...panel.lines.values()].sort(
        (a, b) => names.indexOf(a.line) - names.indexOf(b.line) || a.place - b.place,
      );
    }
    return sorted;
  }

  function pointsOf(chart, field, run) {
    if (chart.kind === "curve") {
      if (!run.curve) return [];
      return run.curve[0].map((x, index) => ({ x, y: Number(run.curve[1][index]), run, group: x }));
    }
    const x = run[chart.x.field];
    if (x === undefined || run[field] === undefined) return [];
    return [{ x, y: run[field], run, group: chart.group && chart.group in run ? run[chart.group] : x }];
  }

  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  // what is no number counts as infinite: a run that diverged must not vanish from the median
  function medians(points) {
    const groups = new Map();
    for (const point of points) {
      if (!groups.has(point.group)) groups.set(point.group, []);
      groups.get(point.group).push(point);
    }
    const found = [...groups.values()].map((group) => {
      const values = group.map(({ y }) => (Number.isNaN(y) ? Infinity : y));
      const places = group.map(({ x }) => x);
      const x = typeof places[0] === "number" ? median(places) : places[0];
      return { x, y: median(values), low: Math.min(...values), high: Math.max(...values), count: group.length };
    });
    return found.filter(({ y }) => Number.isFinite(y)).sort((a, b) => Report.compare(a.x, b.x));
  }

  // ---- what the pointer shows

  const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  function told(pairs) {
    return pairs.filter(([, value]) => value !== undefined).map(([name, value]) =>
      `${escaped(name)}: ${escaped(typeof value === "number" ? Report.number(value) : value)}`).join("<br>");
  }

  function aboutRun(chart, line, { x, y, run }) {
    const extra = chart.panel.filter((field) => !["scale", "init", "depths", "method"].includes(field));
    const places = chart.kind === "points" ? ["suite", "init", "depths", "width"] : [];
    return told([
      [line.label, y], [chart.x.label, x], ...[...places, ...extra].map((field) => [field, run[field]]),
      ["method", run.line], ["rank", run.rank], ["seed", run.seed], ["lr", run.lr], ["weight decay", run.weight_decay],
      ["scale", run.scale], ["cell", run.cell], ["commit", run.commit?.replace(/^([0-9a-f]{10})[0-9a-f]+/, "$1")],
    ]);
  }

  function aboutMedian(chart, line, { x, y, low, high, count }) {
    const over = count === 1 ? "one run" : `${count} runs, ${Report.number(low)} to ${Report.number(high)}`;
    return `<b>${escaped(line.label)}</b><br>${told([["median", y], [chart.x.label, x]])}<br>${escaped(over)}`;
  }

  // ---- one chart

  function drawChart({ chart, section, panels }, visible, options) {
    const found = panelsOf(chart, visible);
    const every = found.flatMap((panel) => panel.lines.flatMap((line) => line.points));
    const log = chart.log ? options.axis !== "linear" : false;
    const beside = options.authors ? chart.reported.flatMap(({ y }) => y.map((value) => ({ y: value }))) : [];
    const [decades, cap] = options.axis === "all" ? [Infinity, Infinity] : [chart.decades, Number(chart.cap)];
    const range = heights([...every, ...beside], log, decades, cap);
    const container = section.querySelector(".panels");
    const kept = new Set(found.map(({ key }) => key));
    for (const [key, box] of panels) {
      if (kept.has(key)) continue;
      Plotly.purge(box.querySelector(".plot"));
      box.remove();
      panels.delete(key);
    }
    // all boxes before any plot, whose width depends on how many there are
    for (const panel of found) {
      if (!panels.has(panel.key)) panels.set(panel.key, emptyPanel(chart, panel));
      container.append(panels.get(panel.key));
    }
    for (const panel of found) {
      const traces = panel.lines.flatMap((line) => tracesOf(chart, line, range, options));
      if (options.authors) traces.push(...reportedTraces(chart, panel, range, options.look));
      if (chart.diagonal) traces.push(diagonal(every, range, log, options.look));
      const plot = panels.get(panel.key).querySelector(".plot");
      Plotly.react(plot, traces, layout(chart, panel, range, log, options.look, plot.clientWidth), {
        displaylogo: false,
        modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      });
    }
    drawLegend(chart, section.querySelector(".legend"), found, options);
    leftOut(section.querySelector(".left-out"), every, range, log);
    section.classList.toggle("empty", !found.length);
  }

  function emptyPanel(chart, { facets }) {
    const words = chart.panel.map((field, index) => chart.names[field][facets[index]]);
    const shown = words.filter((word, index) => word && chart.panel[index] !== "scale");
    const head = Report.element("h3", {}, shown.join(" · "));
    const scale = facets[chart.panel.indexOf("scale")];
    if (scale) head.append(" ", Report.element("span", { class: "scale", "data-scale": scale }, scale));
    const name = `${chart.title}, ${words.join(", ")}; the table below has the numbers`;
    const plot = Report.element("div", { class: "plot", role: "img", "aria-label": name });
    return Report.element("div", { class: "panel" }, head, plot);
  }

  // the axis all panels of a chart share, and where it is cut
  function heights(points, log, decades, cap) {
    const values = points.map(({ y }) => y).filter((y) => Number.isFinite(y) && (!log || y > 0));
    if (!values.length) return { floor: log ? 1e-8 : -Infinity, cap: Infinity, ends: log ? [-8, 0] : [0, 1] };
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    if (!log) {
      const room = 0.05 * ((high - Math.min(0, low)) || 1);
      return { floor: -Infinity, cap: Infinity, ends: [Math.min(0, low) - room, high + room] };
    }
    const top = Math.log10(Math.min(high, cap));
    const bottom = Math.max(Math.log10(low), Math.ceil(top) - decades);
    const room = Math.max(0.06 * (top - bottom), 0.3);
    return { floor: 10 ** bottom, cap: 10 ** top, ends: [bottom - room, top + room] };
  }

  function tracesOf(chart, line, { floor, cap }, { look, seeds }) {
    const colour = colourOf(line.style, look);
    const symbol = line.style?.symbol ?? "circle";
    const dashes = ["solid", "dash", "dot", "dashdot"];
    const severalSeries = chart.series.length > 1 && chart.line !== "series";
    const dash = severalSeries ? dashes[line.place % 4] : line.style?.dash ?? "solid";
    const place = ({ y }) => Math.min(Math.max(y, floor), cap);
    const across = ({ x }) => (chart.diagonal && floor > -Infinity ? Math.min(Math.max(x, floor), cap) : x);
    const finite = line.points.filter(({ y }) => Number.isFinite(y));
    const shared = { name: line.name, type: "scatter", hovertemplate: "%{text}<extra></extra>" };
    const alone = chart.kind === "points";
    const traces = [];
    if (alone || seeds) {
      const points = chart.kind === "curve" ? withGaps(finite) : finite;
      traces.push({
        ...shared, meta: "seeds", mode: chart.kind === "curve" ? "lines" : "markers", connectgaps: false,
        x: points.map((point) => (point ? across(point) : null)), y: points.map((point) => (point ? place(point) : null)),
        text: points.map((point) => (point ? aboutRun(chart, line, point) : "")),
        opacity: alone ? 0.75 : 0.35, line: { color: colour, width: 1 },
        marker: { color: colour, symbol: alone ? symbol : "circle", size: alone ? 8 : 5 },
      });
    }
    if (alone) return traces;
    const middles = medians(line.points);
    traces.push({
      ...shared, meta: "median", mode: chart.kind === "curve" ? "lines" : "lines+markers",
      x: middles.map(({ x }) => x), y: middles.map(place), text: middles.map((one) => aboutMedian(chart, line, one)),
      line: { color: colour, width: 2, dash },
      marker: { color: severalSeries && line.place ? look.paper : colour, symbol, size: 8,
        line: { color: colour, width: 1.5 } },
    });
    return traces;
  }

  // between two runs' curves nothing is drawn
  function withGaps(points) {
    return points.flatMap((point, index) => (index && point.run !== points[index - 1].run ? [null, point] : [point]));
  }

  function labelOf(chart, name) {
    return chart.styles[name]?.label ?? name;
  }

  function reportedTraces(chart, panel, { floor }, look) {
    const here = chart.reported.filter(({ panel: wanted }) =>
      Object.entries(wanted).every(([field, value]) => panel.facets[chart.panel.indexOf(field)] === value));
    return here.map(({ line, x, y, source }) => {
      const colour = colourOf(chart.styles[line], look);
      // fewer say nothing of what is between them
      const joined = x.length >= 4;
      return {
        name: line, meta: "reported", type: "scatter", mode: joined ? "lines+markers" : "markers", x,
        y: y.map((value) => Math.max(value, floor)), hovertemplate: "%{text}<extra></extra>",
        text: x.map((place, index) => `<b>${escaped(labelOf(chart, line))}, authors' median</b><br>${
          told([[chart.y_label, y[index]], [chart.x.label, place], ["read from", source[index]]])}`),
        line: { color: colour, width: 1, dash: "dot" }, marker: { color: colour, symbol: "asterisk-open", size: 9 },
      };
    });
  }

  function diagonal(points, { ends }, log, look) {
    const places = points.map(({ x }) => x).filter(Number.isFinite);
    const edges = log ? ends.map((end) => 10 ** end) : [0, ends[1]];
    const [low, high] = [edges[0], places.reduce((a, b) => Math.max(a, b), edges[1])];
    return { x: [low, high], y: [low, high], mode: "lines", type: "scatter", hoverinfo: "skip", meta: "diagonal",
      line: { color: look.faint, width: 1, dash: "dot" } };
  }

  function layout(chart, panel, { ends }, log, look, width) {
    const narrow = matchMedia("(max-width: 40rem)").matches;
    const grid = { gridcolor: look.line, zeroline: false, linecolor: look.faint, ticks: "outside", tickcolor: look.faint,
      ticklen: 4, tickfont: { size: 11 }, title: { standoff: 8, font: { size: 12 } } };
    const places = [...new Set(panel.lines.flatMap((line) => line.points.map(({ x }) => x)))].sort(Report.compare);
    const kind = chart.kind === "curve" ? "log" : chart.x.kind;
    const x = { ...grid, type: chart.diagonal && !log ? "linear" : kind, automargin: true, showgrid: false,
      title: { ...grid.title, text: chart.x.label } };
    if (x.type === "linear" && places.length <= 9 && chart.x.field === "rank") Object.assign(x, { tickmode: "array", tickvals: places });
    if (x.type === "linear") x.nticks = 6;
    if (x.type === "log") Object.assign(x, { exponentformat: "power", ...across(places) });
    if (x.type === "category") Object.assign(x, { categoryorder: "array", categoryarray: places });
    const y = { ...grid, type: log ? "log" : "linear", range: ends, automargin: true, nticks: 7,
      exponentformat: "power", title: { ...grid.title, text: chart.y_label } };
    if (log && ends[1] - ends[0] > 2) y.dtick = Math.ceil((ends[1] - ends[0]) / 6);
    else if (log) Object.assign(y, { tickmode: "array", ...within(ends) });
    return {
      width, height: narrow ? 280 : 320, margin: { l: 8, r: 12, t: 8, b: 8 }, showlegend: false, xaxis: x, yaxis: y,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
      dragmode: narrow ? false : "zoom", uirevision: `${log}${ends}`,
      font: { family: look.font, size: 12, color: look.ink },
      hoverlabel: { bgcolor: look.paper, bordercolor: look.faint, align: "left", font: { color: look.ink, size: 12 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: look.faint, activecolor: look.ink },
    };
  }

  // one, two and five of each power: less than two decades have too few powers of their own
  function within([low, high]) {
    const powers = Array.from({ length: Math.ceil(high) - Math.floor(low) + 1 }, (_, at) => Math.floor(low) + at);
    const tickvals = powers.flatMap((power) => [1, 2, 5].map((digit) => Number(`${digit}e${power}`)));
    return { tickvals, ticktext: tickvals.map(Report.number) };
  }

  // the ticks of a logarithmic axis below the plot
  function across(places) {
    const powers = places.filter((x) => x > 0 && Number.isFinite(x)).map(Math.log10);
    const span = Math.max(...powers) - Math.min(...powers);
    if (span > 2 || !powers.length) return { dtick: Math.max(1, Math.ceil(span / 5)) };
    return { tickmode: "array", ...within([Math.min(...powers) - 1, Math.max(...powers) + 1]) };
  }

  function leftOut(note, points, { floor, cap }, log) {
    const below = log ? points.filter(({ y }) => y < floor * (1 - 1e-9)).length : 0;
    const above = points.filter(({ y }) => Number.isFinite(y) && y > cap * (1 + 1e-9)).length;
    const lost = points.filter(({ y }) => !Number.isFinite(y)).length;
    const text = [];
    if (below) text.push(`${below} below ${floor.toExponential(0)} drawn on the lower edge; the pointer shows their values.`);
    if (above) text.push(`${above} above ${cap.toExponential(0)} drawn on the upper edge.`);
    if (lost) text.push(`${lost} without a finite value not drawn; they count as infinite in medians.`);
    note.textContent = text.join(" ");
    note.hidden = !text.length;
  }

  function drawLegend(chart, list, panels, { look, authors }) {
    const lines = new Map();
    for (const panel of panels) for (const line of panel.lines) lines.set(line.name, line);
    const names = Object.keys(chart.styles);
    const sorted = [...lines.values()].sort(
      (a, b) => names.indexOf(a.line) - names.indexOf(b.line) || a.place - b.place,
    );
    const items = sorted.map((line) => Report.element("li", {}, swatch(chart, line, look), ` ${line.label}`));
    if (authors && chart.reported.length) items.push(Report.element("li", { class: "faint" }, "✳ medians the authors report"));
    list.replaceChildren(...items);
  }

  function swatch(chart, line, look) {
    const severalSeries = chart.series.length > 1 && chart.line !== "series";
    const dash = severalSeries ? ["solid", "dash", "dot", "dashdot"][line.place % 4] : line.style?.dash;
    const shapes = {
      "triangle-down": "M7,3H17L12,12Z", "triangle-up": "M7,11H17L12,2Z", square: "M8,3H16V11H8Z",
      diamond: "M12,2L17,7L12,12L7,7Z", star: "M12,1.5L13.5,5.4L17.5,5.6L14.4,8.1L15.4,12.1L12,9.9L8.6,12.1L9.6,8.1L6.5,5.6L10.5,5.4Z",
      x: "M8.5,2.5L12,5.5L15.5,2.5L16.5,3.5L13.5,7L16.5,10.5L15.5,11.5L12,8.5L8.5,11.5L7.5,10.5L10.5,7L7.5,3.5Z",
      cross: "M10.5,2H13.5V5.5H17V8.5H13.5V12H10.5V8.5H7V5.5H10.5Z",
    };
    const make = (name, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      return made;
    };
    const colour = colourOf(line.style, look);
    const drawing = make("svg", { width: 24, height: 14, "aria-hidden": "true" });
    if (chart.kind !== "points") {
      const pattern = { dash: "5 3", dot: "2 2", dashdot: "5 2 1 2" }[dash] ?? "none";
      drawing.append(make("path", { d: "M0,7H24", stroke: colour, "stroke-width": 2, "stroke-dasharray": pattern }));
    }
    if (chart.kind !== "curve") {
      const fill = severalSeries && line.place ? look.paper : colour;
      drawing.append(make("path", { d: shapes[line.style?.symbol] ?? "M8,7a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", fill, stroke: colour }));
    }
    return drawing;
  }
};
