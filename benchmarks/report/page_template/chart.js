// Line charts as inline SVG.

const CHART = { width: 560, height: 380, left: 58, right: 14, top: 12, bottom: 46 };
const hiddenSeries = new Set();
const redraws = [];

/**
 * A figure with one chart. series: [{name, dashed, points: [{x, y, setting}]}]; x is logarithmic, y if yLog.
 * What is measured fills the chart; dashed curves may leave it.
 */
function chartFigure({ title, xLabel, yLabel, yLog, series, describe }) {
  const place = make("div", { class: "chart" });
  const draw = () => place.replaceChildren(...drawChart({ title, xLabel, yLabel, yLog, series, describe }));
  redraws.push(draw);
  draw();
  return make("figure", {}, make("figcaption", {}, title), place, chartTable({ xLabel, yLabel, series }));
}

function drawChart({ title, xLabel, yLabel, yLog, series, describe }) {
  const visible = series.filter((each) => !hiddenSeries.has(each.name));
  const solid = visible.filter((each) => !each.dashed);
  const points = (solid.length ? solid : visible).flatMap((each) => each.points);
  const label = `${title}: ${visible.map((each) => labelOf(each.name)).join(", ")}. The figures are in the table below.`;
  const { width, height, left, right, top, bottom } = CHART;
  const svg = makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  if (!points.length) return [svg];
  const x = scaleOf(points.map((point) => point.x), true, left, width - right);
  const y = scaleOf(points.map((point) => point.y), yLog, height - bottom, top);

  for (const tick of x.ticks) {
    svg.append(makeSvg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: height - bottom }));
    svg.append(makeSvg("text", { x: x(tick), y: height - bottom + 18, "text-anchor": "middle" }, String(tick)));
  }
  for (const tick of y.ticks) {
    svg.append(makeSvg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    svg.append(makeSvg("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, String(tick)));
  }
  const middle = (top + height - bottom) / 2;
  svg.append(makeSvg("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel));
  svg.append(makeSvg("text", { transform: `translate(14 ${middle}) rotate(-90)`, "text-anchor": "middle" }, yLabel));

  const id = "clip" + redraws.length + title.length + Math.random().toString(36).slice(2);
  const box = makeSvg("rect", { x: left, y: top - 6, width: width - left - right + 6, height: height - top - bottom + 12 });
  const inside = makeSvg("g", { "clip-path": `url(#${id})` });
  svg.append(makeSvg("clipPath", { id }, box), inside);
  const spots = [];
  for (const each of [...visible].sort((a, b) => (b.dashed || 0) - (a.dashed || 0))) {
    const at = each.points.map((point) => ({ point, each, left: x(point.x), top: y(point.y) }));
    spots.push(...at);
    inside.append(makeSvg("polyline", {
      class: "curve", points: at.map((spot) => `${spot.left.toFixed(1)},${spot.top.toFixed(1)}`).join(" "),
      stroke: DATA.colours[each.name], "stroke-width": each.dashed ? 1.3 : each.name === "native" ? 3 : 2,
      "stroke-dasharray": each.dashed ? "6 5" : null,
    }));
    if (!each.dashed) {
      for (const spot of at) {
        inside.append(makeSvg("circle", { cx: spot.left, cy: spot.top, r: 3.5, fill: DATA.colours[each.name] }));
      }
    }
  }
  const inBox = spots.filter((spot) => spot.left >= left - 1 && spot.left <= width - right + 1 && spot.top >= top - 6 && spot.top <= height - bottom + 6);
  return [svg, ...hovering(svg, inBox, describe)];
}

/** The ring and the note that follow the pointer to the nearest point. */
function hovering(svg, spots, describe) {
  const ring = makeSvg("circle", { r: 7, fill: "none", stroke: "currentColor", "stroke-width": 2, visibility: "hidden" });
  const tip = make("div", { class: "tip", hidden: "" });
  svg.append(ring);
  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect();
    const factor = CHART.width / area.width;
    const [px, py] = [(event.clientX - area.left) * factor, (event.clientY - area.top) * factor];
    const distance = (spot) => Math.hypot(spot.left - px, spot.top - py);
    const nearest = spots.reduce((best, spot) => (!best || distance(spot) < distance(best) ? spot : best), null);
    const near = nearest && distance(nearest) < 60;
    ring.setAttribute("visibility", near ? "visible" : "hidden");
    tip.hidden = !near;
    if (!near) return;
    ring.setAttribute("cx", nearest.left);
    ring.setAttribute("cy", nearest.top);
    tip.replaceChildren(...describe(nearest.each, nearest.point).map((line) => make("div", {}, line)));
    tip.style.left = Math.max(0, Math.min(nearest.left / factor + 12, area.width - tip.offsetWidth)) + "px";
    tip.style.top = Math.max(0, nearest.top / factor - tip.offsetHeight - 10) + "px";
  });
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true;
    ring.setAttribute("visibility", "hidden");
  });
  return [tip];
}

/** value -> place between from and to, with its ticks. */
function scaleOf(values, logarithmic, from, to) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const forward = logarithmic ? Math.log : (value) => value;
  const back = logarithmic ? Math.exp : (value) => value;
  const margin = 0.04 * (forward(high) - forward(low)) || (logarithmic ? 0.1 : 1);
  [low, high] = [forward(low) - margin, forward(high) + margin];
  const scale = (value) => from + ((to - from) * (forward(value) - low)) / (high - low);
  scale.ticks = logarithmic ? logTicks(back(low), back(high)) : evenTicks(low, high);
  return scale;
}

function logTicks(low, high) {
  const ticks = [];
  const steps = high / low > 300 ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const step of steps) {
      const tick = Number((step * 10 ** power).toPrecision(3));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

function evenTicks(low, high) {
  const rough = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(Number(tick.toFixed(6)));
  return ticks;
}

function chartTable({ xLabel, yLabel, series }) {
  const body = make("tbody");
  for (const each of series) {
    for (const point of each.points) {
      body.append(make("tr", {}, make("td", {}, labelOf(each.name)), make("td", {}, each.dashed ? NONE : String(point.setting)),
        make("td", {}, numberText(point.x)), make("td", {}, numberText(point.y, 4))));
    }
  }
  const head = make("tr", {}, ...["codec", "setting", xLabel, yLabel].map((text) => make("th", { scope: "col" }, make("span", {}, text))));
  return make("details", {}, make("summary", {}, "Figures"), make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), body)));
}

/** The buttons that show and hide a curve in all charts. */
function legend(place, names, dashed) {
  for (const name of names) {
    const line = makeSvg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, makeSvg("line", {
      x1: 0, x2: 26, y1: 5, y2: 5, stroke: DATA.colours[name], "stroke-width": 3, "stroke-dasharray": dashed.has(name) ? "5 4" : null,
    }));
    const button = make("button", { type: "button", "aria-pressed": "true", onclick: () => {
      const hide = !hiddenSeries.has(name);
      hide ? hiddenSeries.add(name) : hiddenSeries.delete(name);
      button.setAttribute("aria-pressed", String(!hide));
      redraws.forEach((draw) => draw());
    } }, line, labelOf(name));
    place.append(button);
  }
}
