// Elements and numbers. Text from the data only ever becomes a text node.

const DATA = JSON.parse(document.getElementById("data").textContent);
const NONE = "–";

/** make("td", {class: "x", onclick: f}, child, ...): an element; strings among the children become text. */
function make(name, attributes = {}, ...children) {
  return dress(document.createElement(name), attributes, children);
}

function makeSvg(name, attributes = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function dress(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A labelled choice: options are [value, text]; change(value) runs when another is chosen. */
function choice(text, options, chosen, change) {
  const select = make("select", { "aria-label": text, onchange: () => change(select.value) });
  for (const [value, name] of options) select.append(make("option", { value }, name));
  select.value = chosen;
  return { element: make("label", {}, text, select), select };
}

function labelOf(name) {
  return Object.hasOwn(DATA.labels, name) ? DATA.labels[name] : name;
}

function bytesText(bytes) {
  return bytes.toLocaleString("en") + " bytes";
}

/** A number with about so many digits, without an exponent. */
function numberText(value, digits = 3) {
  if (value === null || value === undefined) return NONE;
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value) || 1)));
  return value.toFixed(Math.min(decimals, 6));
}

/** A metric's value as it was measured; null stands for infinity. */
function metricText(metric, value) {
  if (value === undefined) return NONE;
  if (value === null) return "∞";
  return value.toFixed(metric.startsWith("psnr") || metric === "ssimulacra2" ? 2 : 4);
}

function percentText(value) {
  if (value === null || value === undefined) return NONE;
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1);
}

function plural(count, word) {
  return count === 1 ? `1 ${word}` : `${count} ${word}s`;
}

function swatch(name) {
  const dot = make("span", { class: "swatch", "aria-hidden": "true" });
  dot.style.background = DATA.colours[name];
  return dot;
}
