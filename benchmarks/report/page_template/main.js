// Puts the parts together.

const { summary, run, viewer } = DATA;
const codecNames = Object.keys(summary.codecs);
const metricNames = Object.keys(DATA.metrics);
const publishedNames = [...new Set(metricNames.flatMap((metric) => Object.keys(DATA.published[metric] || {})))];

function part(id) {
  return document.getElementById(id);
}

part("lead").append(
  `${plural(summary.pictures, "picture")}${summary.kodak ? " (Kodak)" : ""}, ${plural(codecNames.length, "codec")} (`
  + codecNames.map(labelOf).join(", ") + `), ${plural(metricNames.length, "metric")}`
  + (metricNames.length ? ` (${metricNames.map((metric) => DATA.metrics[metric].replace(" (dB)", "")).join(", ")}).` : "."));

let look = null;
if (viewer.pictures.length) look = new Viewer(part("viewer"), viewer.pictures);
for (const note of viewer.notes) part("viewer").append(make("p", { class: "remark" }, note));

for (const metric of metricNames) {
  const series = codecNames.filter((codec) => summary.codecs[codec].curves[metric]).map((codec) => seriesOf(codec, summary.codecs[codec].curves[metric], false));
  for (const [name, curve] of Object.entries(DATA.published[metric] || {})) series.push(seriesOf(name, { ...curve, setting: curve.settings }, true));
  if (!series.some((each) => !each.dashed)) continue;
  part("charts").append(chartFigure({
    title: DATA.metrics[metric], xLabel: "bits per pixel", yLabel: DATA.metrics[metric], yLog: false, series,
    describe: (each, point) => [each.dashed ? `${labelOf(each.name)} (published)` : `${labelOf(each.name)}, setting ${point.setting}`,
      `${numberText(point.x)} bpp`, `${numberText(point.y, 4)} ${DATA.metrics[metric]}`],
  }));
}
if (part("charts").childElementCount) legend(part("legend"), [...codecNames, ...publishedNames], new Set(publishedNames));
else part("charts").append(make("p", { class: "remark" }, "No codec has a value of any metric: there is nothing to draw."));

function seriesOf(name, curve, dashed) {
  return { name, dashed, points: curve.bpp.map((x, index) => ({ x, y: curve.quality[index], setting: curve.setting[index] })) };
}

ratesTable(part("rates-table"), part("rates-lead"));
picturesTable(part("pictures-table"), (name) => viewer.pictures.some((picture) => picture.name === name), (name) => {
  look.openPicture(name);
  part("look").scrollIntoView();
});

part("speed-lead").append(`Wall clock, medians over the pictures. Measured on: ${summary.machines.join("; ") || "an unnamed machine"}.`
  + (summary.jobs > 1 ? ` Up to ${summary.jobs} processes measured at once: read times as upper bounds.` : ""));
for (const direction of ["encode", "decode"]) {
  const series = codecNames.filter((codec) => summary.codecs[codec].speed.length).map((name) => ({
    name, dashed: false, points: summary.codecs[name].speed.map((point) => ({ x: point.bpp, y: point[direction], setting: point.setting })).sort((a, b) => a.x - b.x),
  }));
  if (!series.length) continue;
  const title = direction === "encode" ? "Encoding" : "Decoding";
  part("speed-charts").append(chartFigure({
    title, xLabel: "bits per pixel", yLabel: "seconds per megapixel", yLog: true, series,
    describe: (each, point) => [`${labelOf(each.name)}, setting ${point.setting}`, `${numberText(point.x)} bpp`, `${numberText(point.y)} s per megapixel`],
  }));
}
codecsTable(part("codecs-table"));

const facts = [
  "A point of a curve counts only if every picture has it; a BD-rate integrates ln(bits per pixel) over the qualities that both curves reach, by PCHIP.",
  `Bootstrap: whole pictures drawn with replacement, the same draws for every codec, ${summary.bootstrap.draws} draws.`,
  ...(run.command ? [`Command: ${Array.isArray(run.command) ? run.command.join(" ") : run.command}`] : []),
  ...summary.packages.map((packages) => `Packages: ${packages}`),
  ...Object.entries(run.skipped || {}).map(([name, why]) => `Skipped: ${name}: ${why}`),
];
// A picture that cannot be loaded is told once, not for every codec.
const failures = [...new Set(codecNames.flatMap((codec) => summary.codecs[codec].failures.map((failure) =>
  (failure.error.startsWith("load: ") ? "" : `${labelOf(codec)} ${failure.settings.join(", ")}: `) + `${failure.picture}: ${failure.error}`)))];
const noteGroups = [["How", facts], ["Left out", summary.left_out], ["Failed", failures]];
for (const [title, lines] of noteGroups) {
  if (lines.length) part("notes-list").append(make("h3", {}, title), make("ul", {}, ...lines.map((line) => make("li", {}, line))));
}
document.documentElement.dataset.ready = "true";
