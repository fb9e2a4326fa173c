// The curves of trainings, by uPlot. Of data: runs (names), groups (see asr/report/curves.py).
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("curve-controls");
  if (!form) return;
  const COLOURS = 7;
  const charts = [];
  const controls = form.elements;
  const specs = new Map(data.groups.flatMap(group => group.charts).map(chart => [chart.metric, chart]));
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const boxes = [...form.querySelectorAll("input[name=run]")];
  const steps = [...specs.values()].flatMap(chart => chart.curves.flatMap(curve => [curve.steps[0], curve.steps.at(-1)]));
  const lowest = Math.min(...steps);
  const whole = [lowest, Math.max(...steps, lowest + 1)];  // a range of one step would draw nothing
  const WHOLE = [...Array(10).keys()].flatMap(power => [1, 2, 5].map(digit => digit * 10 ** power));  // between steps that are named
  let range = null;

  function shown(value, digits = 4) {
    if (value == null) return "–";
    const rounded = Number(value.toPrecision(digits));
    return rounded && (Math.abs(rounded) < 1e-3 || Math.abs(rounded) >= 1e6) ? rounded.toExponential() : String(rounded);
  }

  // What is drawn of a chart, in order: of each curve its values, and the ends of their intervals where they are known.
  const columns = chart => chart.curves.flatMap(curve => [curve.values, ...curve.ends].map(values => ({curve, values})));
  const column = (chart, curve) => 1 + columns(chart).findIndex(one => one.values === curve.values);

  function tables(chart) {
    return uPlot.join(columns(chart).map(({curve, values}) => [curve.steps, values]));
  }

  function canBeLogarithmic(chart) {
    return chart.curves.every(curve => curve.values.every(value => value == null || value > 0));
  }

  function options(chart, width, logarithmic) {
    const own = curve => colour(`--run-${curve.run % COLOURS}`);
    const series = columns(chart).map(({curve, values}) => ({
      label: data.runs[curve.run],
      stroke: values === curve.values ? () => own(curve) : undefined,
      dash: curve.run >= COLOURS ? [6, 3] : undefined,
      width: 1.75,
      spanGaps: true,
      show: boxes[curve.run].checked,
      points: {show: values === curve.values && curve.steps.length < 25, size: 5, fill: () => own(curve)},
    }));
    const bands = chart.curves.filter(curve => curve.ends.length).map(curve => {
      const at = column(chart, curve);
      return {series: [at + 2, at + 1], fill: () => `${own(curve)}22`};
    });
    const axis = {
      stroke: () => colour("--muted"), font: "12px system-ui, sans-serif",
      grid: {stroke: () => colour("--line"), width: 1}, ticks: {show: false},
    };
    return {
      width, height: 200, legend: {show: false}, padding: [8, 22, 0, 0],
      cursor: {sync: {key: "steps", scales: ["x", null]}, drag: {x: true, y: false, setScale: false}, y: false},
      scales: {
        x: {time: false, range: () => range || whole},
        y: logarithmic && canBeLogarithmic(chart) ? {distr: 3} : {},
      },
      series: [{}, ...series], bands,
      axes: [{...axis, size: 28, space: 60, incrs: WHOLE, values: (u, values) => values.map(value => value == null ? "" : String(value))},
        {...axis, size: 52, values: (u, values) => values.map(value => value == null ? "" : shown(value))}],
      hooks: {
        setCursor: [u => read(u, chart)],
        setSelect: [u => {
          if (u.select.width > 3) zoom(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
          u.setSelect({left: 0, width: 0, top: 0, height: 0}, false);
        }],
      },
    };
  }

  function read(u, chart) {
    const at = u.cursor.idx;
    if (at == null) return latest(u, chart);
    fill(u.readout, `step ${u.data[0][at]}:`, chart.curves.map(curve => [curve.run, ...shownAt(u, chart, curve, at)]));
  }

  function shownAt(u, chart, curve, at) {
    const first = column(chart, curve);
    return [0, ...curve.ends.map((_, n) => n + 1)].map(n => u.data[first + n][at]);
  }

  function latest(u, chart) {
    fill(u.readout, "last:", chart.curves.map(curve => [curve.run, ...[curve.values, ...curve.ends].map(one => one.at(-1))]));
  }

  function fill(readout, title, values) {
    const parts = values.filter(([run]) => boxes[run].checked).map(([run, value, low, high]) => {
      const part = document.createElement("span");
      part.className = `run-${run % COLOURS}`;
      const within = low == null ? "" : ` (${shown(low, 3)} to ${shown(high, 3)})`;
      part.textContent = `${data.runs.length > 1 ? `${data.runs[run]} ` : ""}${shown(value)}${within}`;
      return part;
    });
    const head = document.createElement("span");
    head.textContent = title;
    readout.replaceChildren(head, ...parts);
  }

  function zoom(from, to) {
    if (from != null) {
      const low = Math.min(Math.max(Math.round(from), whole[0]), whole[1] - 1);
      range = [low, Math.max(Math.min(Math.round(to), whole[1]), low + 1)];
    } else range = null;
    controls.from.value = range ? range[0] : "";
    controls.to.value = range ? range[1] : "";
    for (const {u} of charts) u.setData(u.data, true);
  }

  function keys(event, u) {
    const [low, high] = range || whole;
    const last = u.data[0].length - 1;
    const move = to => {
      const at = Math.min(Math.max(to, 0), last);
      u.setCursor({left: u.valToPos(u.data[0][at], "x"), top: 10}, true, true);
    };
    const now = u.cursor.idx ?? last;
    const middle = u.data[0][now], half = (high - low) / 4;
    const actions = {
      ArrowRight: () => move(now + 1), ArrowLeft: () => move(u.cursor.idx == null ? last : now - 1),
      Home: () => move(0), End: () => move(last), Escape: () => zoom(null),
      "+": () => zoom(middle - half, middle + half), "=": () => zoom(middle - half, middle + half),
      "-": () => zoom(middle - 4 * half, middle + 4 * half),
    };
    const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : actions[event.key];
    if (action) { event.preventDefault(); action(); }
  }

  function summary(chart) {
    const told = chart.curves.map(curve => `${data.runs[curve.run]} ${shown(curve.values.at(-1))}`);
    return `Chart: ${chart.title}${chart.unit ? ", " + chart.unit : ""}. Last values: ${told.join(", ")}.`;
  }

  function make(figure) {
    const chart = specs.get(figure.dataset.metric), plot = figure.querySelector(".plot");
    plot.tabIndex = 0;
    plot.setAttribute("role", "application");
    plot.setAttribute("aria-label", summary(chart));
    plot.setAttribute("aria-describedby", "curve-help");
    const entry = {u: null, chart, plot, readout: figure.querySelector(".readout")};
    entry.readout.setAttribute("aria-live", "off");
    plot.addEventListener("keydown", event => keys(event, entry.u));
    plot.addEventListener("focus", () => entry.readout.setAttribute("aria-live", "polite"));
    plot.addEventListener("blur", () => entry.readout.setAttribute("aria-live", "off"));
    plot.addEventListener("dblclick", () => zoom(null));
    draw(entry);
    charts.push(entry);
  }

  function draw(entry) {
    entry.u?.destroy();
    const u = new uPlot(options(entry.chart, entry.plot.clientWidth, controls.logarithmic.checked), tables(entry.chart));
    u.readout = entry.readout;
    entry.u = u;
    entry.plot.replaceChildren(u.root);
    latest(u, entry.chart);
  }

  form.addEventListener("submit", event => event.preventDefault());
  controls.all.addEventListener("click", () => zoom(null));
  for (const name of ["from", "to"]) {
    controls[name].min = whole[0];
    controls[name].placeholder = name === "from" ? whole[0] : whole[1];
    controls[name].addEventListener("change", () => {
      const from = controls.from.valueAsNumber, to = controls.to.valueAsNumber;
      zoom(Number.isNaN(from) ? whole[0] : from, Number.isNaN(to) ? whole[1] : to);
    });
  }
  controls.logarithmic.addEventListener("change", () => charts.forEach(draw));
  for (const box of boxes) {
    box.addEventListener("change", () => {
      for (const {u, chart} of charts) {
        columns(chart).forEach(({curve}, n) => { if (curve.run === Number(box.value)) u.setSeries(n + 1, {show: box.checked}); });
        latest(u, chart);
      }
    });
  }
  document.querySelectorAll(".chart").forEach(make);
  new ResizeObserver(() => {
    for (const {u, plot} of charts) if (plot.clientWidth && plot.clientWidth !== u.width) u.setSize({width: plot.clientWidth, height: 200});
  }).observe(document.getElementById("main"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(({u}) => u.redraw()));
})();
