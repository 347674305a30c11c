// Tables that sort by a press on a column's name.

/**
 * columns: [{title, text}] (text: a column of words); rows: [[cell]], a cell {value, show} with value a number,
 * a string or null (null always sorts last) and show a text or an element. order: [column, "ascending" | "descending"].
 */
function sortableTable({ caption, columns, rows, order }) {
  const body = make("tbody");
  const heads = columns.map((column, index) => make("th", { scope: "col", class: column.text ? "text" : null },
    make("button", { type: "button", onclick: () => sort(index) }, column.title)));
  const lines = rows.map((cells) => ({ cells, element: make("tr", {}, ...cells.map((cell, index) => rowCell(cell, index, columns))) }));

  function sort(index, direction) {
    const now = heads[index].getAttribute("aria-sort");
    const up = direction ? direction === "ascending" : now ? now === "descending" : Boolean(columns[index].text);
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[index].setAttribute("aria-sort", up ? "ascending" : "descending");
    const sign = up ? 1 : -1;
    lines.sort((a, b) => compare(a.cells[index].value, b.cells[index].value, sign));
    body.replaceChildren(...lines.map((line) => line.element));
  }

  body.append(...lines.map((line) => line.element));
  if (order) sort(...order);
  const table = make("table", { "aria-label": caption }, make("thead", {}, make("tr", {}, ...heads)), body);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table);
}

function rowCell(cell, index, columns) {
  const attributes = { class: columns[index].text ? "text" : null, scope: index ? null : "row", title: cell.title };
  const element = make(index ? "td" : "th", attributes, cell.show);
  if (cell.tint) element.style.background = cell.tint;
  return element;
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
}

/** Green where fewer bytes are needed, red where more. */
function tintOf(percent) {
  if (percent === null || percent === undefined) return null;
  const strength = Math.min(Math.abs(Math.log1p(Math.max(percent, -95) / 100)) / Math.log(2), 1) * 0.28;
  return `rgba(var(${percent < 0 ? "--better" : "--worse"}), ${strength.toFixed(3)})`;
}

function figureCell(figure) {
  if (!figure || figure.percent === undefined) return { value: null, show: NONE, title: figure && figure.error };
  const show = make("span", {}, percentText(figure.percent) + (figure.warning ? "*" : ""));
  if (figure.interval) show.append(make("span", { class: "interval" }, figure.interval.map(percentText).join(" to ")));
  return { value: figure.percent, show, title: figure.warning, tint: tintOf(figure.percent) };
}

/** BD-rates of every codec against a chosen one. */
function ratesTable(place, lead) {
  const { bd_rate: rates, bootstrap, pictures, codecs } = DATA.summary;
  const tests = Object.keys(rates);
  const metrics = Object.keys(DATA.metrics);
  const anchors = [...new Set(Object.values(rates).flatMap((entry) => Object.keys(entry)))];
  if (!anchors.length || !metrics.length) {
    place.append(make("p", { class: "remark" }, "A BD-rate compares two codecs that gave values: there is nothing to compare here."));
    return;
  }
  lead.append("How many more bytes a codec takes than the one it is set against, at equal quality, in percent: less is better. ");
  lead.append(pictures > 1
    ? `Below each figure, the middle ${Math.round(100 * bootstrap.level)} % of ${bootstrap.draws} bootstrap draws of the pictures; published curves, being means, have none. `
    : "One picture: no bootstrap interval. ");
  lead.append("A star marks curves that share little; point at it, or at a dash, for the reason.");
  const table = make("div");
  const fill = (anchor) => {
    const shown = tests.filter((test) => test !== anchor);
    const rows = shown.map((test) => [
      { value: labelOf(test), show: make("span", {}, swatch(test), labelOf(test)) },
      ...metrics.map((metric) => figureCell((rates[test][anchor] || {})[metric])),
    ]);
    const columns = [{ title: "codec", text: true }, ...metrics.map((metric) => ({ title: DATA.metrics[metric] }))];
    table.replaceChildren(sortableTable({ caption: `BD-rates against ${labelOf(anchor)}, in percent`, columns, rows, order: [1, "ascending"] }));
  };
  const first = ["jpeg", "webp", "avif"].find((name) => name in codecs && anchors.includes(name)) || anchors[0];
  const against = choice("Against", anchors.map((name) => [name, labelOf(name)]), first, fill);
  place.append(make("div", { class: "controls" }, against.element), table);
  fill(first);
}

/** BD-rates picture by picture; view(name) opens one in the viewer, canView says whether it is there. */
function picturesTable(place, canView, view) {
  const all = DATA.summary.per_picture;
  const metrics = Object.keys(all);
  const codecs = Object.keys(DATA.summary.codecs).filter((codec) => metrics.some((metric) => codec in all[metric]));
  if (codecs.length < 2) {
    place.append(make("p", { class: "remark" }, "Two codecs with values are needed to compare pictures."));
    return;
  }
  const table = make("div");
  const ranking = DATA.summary.worst_first;
  let [test, anchor] = ranking ? [ranking.test, ranking.anchor] : codecs;
  const fill = () => {
    const names = Object.keys(DATA.sizes);
    const rows = names.map((name) => {
      const [width, height, pixels] = DATA.sizes[name];
      const title = canView(name)
        ? make("button", { type: "button", title: "Look at this picture", onclick: () => view(name) }, name) : name;
      return [
        { value: name, show: title },
        { value: pixels, show: width ? `${width} × ${height}` : `${pixels.toLocaleString("en")} pixels` },
        ...metrics.map((metric) => {
          const percent = ((all[metric][test] || {})[anchor] || {})[name];
          return { value: percent ?? null, show: percentText(percent), tint: tintOf(percent) };
        }),
      ];
    });
    const columns = [{ title: "picture", text: true }, { title: "size" }, ...metrics.map((metric) => ({ title: DATA.metrics[metric] }))];
    const caption = `BD-rate of ${labelOf(test)} against ${labelOf(anchor)} on each picture, in percent`;
    table.replaceChildren(test === anchor
      ? make("p", { class: "remark" }, "Choose two codecs that differ.")
      : sortableTable({ caption, columns, rows, order: [2, "descending"] }));
  };
  const options = codecs.map((name) => [name, labelOf(name)]);
  place.append(make("div", { class: "controls" },
    choice("BD-rate of", options, test, (name) => { test = name; fill(); }).element,
    choice("Against", options, anchor, (name) => { anchor = name; fill(); }).element), table);
  fill();
}

/** What was run: versions, times, failures. */
function codecsTable(place) {
  const rows = Object.entries(DATA.summary.codecs).map(([codec, entry]) => {
    const failures = entry.failures.reduce((sum, failure) => sum + failure.settings.length, 0);
    return [
      { value: labelOf(codec), show: make("span", {}, swatch(codec), labelOf(codec)) },
      ...[entry.encode_seconds, entry.decode_seconds].map((value) => ({ value, show: value === null ? NONE : numberText(1000 * value) })),
      { value: entry.peak_memory, show: entry.peak_memory === null ? NONE : numberText(entry.peak_memory / 2 ** 20) },
      { value: failures, show: String(failures) },
      { value: entry.version, show: entry.version },
    ];
  });
  const columns = [{ title: "codec", text: true }, { title: "encode, ms" }, { title: "decode, ms" }, { title: "memory, MiB" },
    { title: "failures" }, { title: "version", text: true }];
  place.append(sortableTable({ caption: "Codecs: median times and memory, failures, versions", columns, rows, order: [1, "ascending"] }));
}
