// The viewer: two pictures under a divider, and crops of the original and of both.

const ORIGINAL = "original";
const ZOOMS = [1, 2, 3, 4, 6, 8];
const NEAR = 0.08; // a file this much smaller than another, in ln(bytes), is set beside it without a word

class Viewer {
  constructor(place, pictures) {
    this.pictures = pictures;
    this.codecs = Object.keys(DATA.labels).filter((codec) => pictures.some((picture) => codec in picture.shown));
    const ours = this.codecs.includes("native") ? "native" : this.codecs[0];
    const other = ["jpeg", "webp", "avif"].find((codec) => codec !== ours && this.codecs.includes(codec));
    this.state = { picture: pictures[0], level: 0, left: other || ORIGINAL, right: ours, zoom: 3, at: 50, spot: null };
    this.build(place);
    this.openPicture(pictures[0].name);
  }

  build(place) {
    const sides = [[ORIGINAL, "Original"], ...this.codecs.map((codec) => [codec, labelOf(codec)])];
    const names = this.pictures.map((picture) => [picture.name, picture.name]);
    this.pictureChoice = choice("Picture", names, names[0][0], (name) => this.openPicture(name));
    this.sizeChoice = choice("Size of the files, at most", [], "", (level) => this.set({ level: Number(level) }));
    this.leftChoice = choice("Left", sides, this.state.left, (left) => this.set({ left }));
    this.rightChoice = choice("Right", sides, this.state.right, (right) => this.set({ right }));
    this.zoomChoice = choice("Zoom of the crops", ZOOMS.map((zoom) => [zoom, `${zoom}×`]), this.state.zoom, (zoom) => this.set({ zoom: Number(zoom) }));
    const swap = make("button", { type: "button", onclick: () => this.swap() }, "Swap");
    const hold = make("button", { type: "button", title: "or hold the key O" }, "Hold to see the original");
    for (const name of ["pointerdown", "keydown"]) hold.addEventListener(name, (event) => event.key !== "Tab" && this.showOriginal(true));
    for (const name of ["pointerup", "pointerleave", "keyup", "blur"]) hold.addEventListener(name, () => this.showOriginal(false));
    const choices = [this.pictureChoice, this.sizeChoice, this.leftChoice, this.rightChoice, this.zoomChoice];
    const controls = make("div", { class: "controls" }, ...choices.map((each) => each.element), swap, hold);

    this.base = make("img", { alt: "", draggable: "false" });
    this.images = { left: make("img", { class: "left-side", draggable: "false" }), right: make("img", { class: "right-side", draggable: "false" }) };
    this.badges = { left: make("div", { class: "badge left" }), right: make("div", { class: "badge right" }) };
    this.loupe = make("div", { class: "loupe" });
    this.divider = make("div", {
      class: "divider", role: "slider", tabindex: "0", "aria-label": "Divider between the left and the right picture",
      "aria-valuemin": 0, "aria-valuemax": 100, "aria-orientation": "horizontal", onkeydown: (event) => this.moveByKey(event),
    });
    this.stage = make("div", { class: "stage" }, this.base, this.images.left, this.images.right, this.loupe, this.badges.left, this.badges.right, this.divider);
    this.dragStage();

    this.crops = [ORIGINAL, "left", "right"].map((side) => {
      const canvas = make("canvas", { role: "img", tabindex: "0", onkeydown: (event) => this.panByKey(event) });
      const caption = make("figcaption");
      const facts = make("dl");
      this.dragCrop(canvas);
      return { side, canvas, caption, facts, element: make("figure", {}, canvas, caption, facts) };
    });
    const crops = make("div", { class: "crops" }, ...this.crops.map((crop) => crop.element));
    const help = make("p", { class: "remark" }, "Drag the divider, or focus it and press the arrow keys. Click the picture to choose the detail below; "
      + "drag a detail, or focus it and press the arrow keys, to move it. JPEG, WebP and AVIF files are decoded by this browser, all others are shown as "
      + "their own decoder gave them, without further loss.");
    place.append(controls, this.stage, crops, help);
    new ResizeObserver(() => this.drawCrops()).observe(crops);
    document.addEventListener("keydown", (event) => event.key.toLowerCase() === "o" && !event.ctrlKey && !event.metaKey && this.showOriginal(true));
    document.addEventListener("keyup", (event) => event.key.toLowerCase() === "o" && this.showOriginal(false));
  }

  openPicture(name) {
    const picture = this.pictures.find((each) => each.name === name);
    this.pictureChoice.select.value = name;
    const sizes = picture.sizes.map((bytes, level) => make("option", { value: level }, `${bytesText(bytes)} (${numberText((8 * bytes) / (picture.width * picture.height))} bpp)`));
    this.sizeChoice.select.replaceChildren(...sizes);
    this.base.src = picture.address;
    this.stage.style.aspectRatio = `${picture.width} / ${picture.height}`;
    this.stage.style.maxWidth = `min(100%, ${Math.max(picture.width, 640)}px, ${(82 * picture.width) / picture.height}vh)`;
    this.set({ picture, level: this.firstFairLevel(picture), spot: picture.detail });
  }

  /**
   * The smallest size that both sides' files come near without being over it, so that what is seen first is a
   * fair comparison; else the size to which they come nearest.
   */
  firstFairLevel(picture) {
    const gap = (bytes, level) => Math.max(0, ...["left", "right"].map((side) => {
      const keys = picture.shown[this.state[side]];
      const image = keys && picture.images[keys[level]];
      return image ? Math.abs(Math.log(image.bytes / bytes)) * (image.bytes > bytes ? 2 : 1) : 0;
    }));
    const gaps = picture.sizes.map(gap);
    const near = gaps.findIndex((each) => each <= NEAR);
    return near >= 0 ? near : gaps.indexOf(Math.min(...gaps));
  }

  set(change) {
    Object.assign(this.state, change);
    this.sizeChoice.select.value = this.state.level;
    for (const side of ["left", "right"]) {
      const shown = this.shown(side);
      this.images[side].src = shown.address || this.state.picture.address;
      this.images[side].alt = `${this.state.picture.name}, ${shown.label}`;
      this.images[side].onerror = () => this.badges[side].replaceChildren(`${shown.label}: this browser cannot decode it`);
      this.badges[side].replaceChildren(shown.label, ...(shown.line ? [make("br"), shown.line] : []));
    }
    this.moveDivider(this.state.at);
    this.describeCrops();
    this.drawCrops();
  }

  /** What stands on a side: {label, line, address, image}; image is missing for the original. */
  shown(side) {
    const { picture, level } = this.state;
    const name = side === ORIGINAL ? ORIGINAL : this.state[side];
    const original = { label: "Original", line: `${picture.width} × ${picture.height}`, address: picture.address };
    if (name === ORIGINAL) return original;
    const image = picture.shown[name] && picture.images[picture.shown[name][level]];
    if (!image) return { label: `${labelOf(name)}: not here`, line: "the original is shown", address: picture.address, missing: true };
    return { label: labelOf(name), line: `${bytesText(image.bytes)}, ${numberText(image.bpp)} bpp`, address: image.address, image, over: image.bytes > picture.sizes[level] };
  }

  swap() {
    const { left, right } = this.state;
    this.leftChoice.select.value = right;
    this.rightChoice.select.value = left;
    this.set({ left: right, right: left });
  }

  showOriginal(on) {
    this.stage.classList.toggle("original", on);
  }

  moveDivider(percent) {
    this.state.at = Math.min(100, Math.max(0, percent));
    this.stage.style.setProperty("--at", `${this.state.at}%`);
    this.divider.setAttribute("aria-valuenow", Math.round(this.state.at));
    this.divider.setAttribute("aria-valuetext", `${this.shown("left").label} on the left ${Math.round(this.state.at)} %, ${this.shown("right").label} on the rest`);
  }

  moveByKey(event) {
    const step = event.shiftKey ? 10 : 2;
    const to = { ArrowLeft: this.state.at - step, ArrowDown: this.state.at - step, ArrowRight: this.state.at + step, ArrowUp: this.state.at + step,
      PageDown: this.state.at - 10, PageUp: this.state.at + 10, Home: 0, End: 100 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.moveDivider(to);
  }

  /** A drag moves the divider; a press without a drag chooses the detail. */
  dragStage() {
    let start = null;
    const place = (event) => {
      const area = this.stage.getBoundingClientRect();
      return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
    };
    this.stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = { x: event.clientX, y: event.clientY, moved: event.target === this.divider };
      this.stage.setPointerCapture(event.pointerId);
    });
    this.stage.addEventListener("pointermove", (event) => {
      if (!start) return;
      start.moved = start.moved || Math.hypot(event.clientX - start.x, event.clientY - start.y) > 4;
      if (start.moved) this.moveDivider(100 * place(event)[0]);
    });
    this.stage.addEventListener("pointerup", (event) => {
      if (start && !start.moved) {
        const [x, y] = place(event);
        this.moveSpot(x * this.state.picture.width, y * this.state.picture.height);
      }
      start = null;
    });
    this.stage.addEventListener("pointercancel", () => { start = null; });
  }

  dragCrop(canvas) {
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const { spot, zoom } = this.state;
      this.moveSpot(spot[0] - (event.clientX - last[0]) / zoom, spot[1] - (event.clientY - last[1]) / zoom);
      last = [event.clientX, event.clientY];
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { last = null; });
  }

  panByKey(event) {
    const step = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8] }[event.key];
    if (!step) return;
    event.preventDefault();
    this.moveSpot(this.state.spot[0] + step[0], this.state.spot[1] + step[1]);
  }

  moveSpot(x, y) {
    this.state.spot = [x, y];
    this.drawCrops();
  }

  /** The source rectangle of the crops, whole within the picture where the picture is large enough. */
  cropArea() {
    const { picture, zoom, spot } = this.state;
    const canvas = this.crops[0].canvas;
    const [width, height] = [canvas.clientWidth / zoom, canvas.clientHeight / zoom];
    const within = (middle, length, whole) => (length >= whole ? (whole - length) / 2 : Math.min(Math.max(middle - length / 2, 0), whole - length));
    const area = { left: within(spot[0], width, picture.width), top: within(spot[1], height, picture.height), width, height };
    if (width < picture.width && height < picture.height) this.state.spot = [area.left + width / 2, area.top + height / 2];
    return area;
  }

  drawCrops() {
    const { picture } = this.state;
    if (!this.crops[0].canvas.clientWidth) return;
    const area = this.cropArea();
    const share = (value, whole) => `${(100 * value) / whole}%`;
    Object.assign(this.loupe.style, { left: share(area.left, picture.width), top: share(area.top, picture.height), width: share(area.width, picture.width), height: share(area.height, picture.height) });
    for (const crop of this.crops) {
      const image = crop.side === ORIGINAL ? this.base : this.images[crop.side];
      image.decode().then(() => paint(crop.canvas, image, area), () => paint(crop.canvas, null, area));
    }
  }

  describeCrops() {
    const images = ["left", "right"].map((side) => this.shown(side).image);
    const metrics = Object.keys(DATA.metrics).filter((metric) => images.some((image) => image && metric in image.metrics));
    for (const crop of this.crops) {
      const shown = this.shown(crop.side);
      crop.caption.textContent = shown.label;
      crop.canvas.setAttribute("aria-label", `Detail of ${this.state.picture.name}, ${shown.label}`);
      const facts = shown.image ? [
        ["file", make("span", { class: shown.over ? "over" : null }, bytesText(shown.image.bytes) + (shown.over ? ", over the size" : ""))],
        ["of the size", `${((100 * shown.image.bytes) / this.state.picture.sizes[this.state.level]).toFixed(0)} %`],
        ["rate", `${numberText(shown.image.bpp)} bpp`],
        ["setting", String(shown.image.setting)],
        ...metrics.map((metric) => [DATA.metrics[metric].replace(" (dB)", ""), metricText(metric, shown.image.metrics[metric])]),
      ] : shown.missing ? [["", "see the notes"]] : [["size", shown.line], ["pixels", (this.state.picture.width * this.state.picture.height).toLocaleString("en")]];
      crop.facts.replaceChildren(...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
    }
  }
}

/** The area of the image on the canvas, pixels kept as they are. */
function paint(canvas, image, area) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  if (!image) return;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const factor = canvas.width / area.width;
  context.drawImage(image, -area.left * factor, -area.top * factor, image.naturalWidth * factor, image.naturalHeight * factor);
}
