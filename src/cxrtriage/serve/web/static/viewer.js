// Films: window and level by drag, zoom by wheel, pinch and keys, moving, inverting. The picture has 8 bits; what it does
// not hold no window brings back.
"use strict";

const MOST = 12;

class Viewer {
  constructor(figure) {
    this.figure = figure;
    this.stage = figure.querySelector(".stage");
    this.image = this.stage.querySelector("img");
    this.lines = [...figure.querySelectorAll("feFuncR, feFuncG, feFuncB")];
    this.pointers = new Map();
    this.image.style.filter = `url(#window-${figure.dataset.film})`;
    this.image.addEventListener("error", () => this.missing());
    if (this.image.complete && !this.image.naturalWidth) this.missing();
    for (const button of figure.querySelectorAll("[data-do]")) {
      button.addEventListener("click", () => this.act(button.dataset.do, button));
    }
    this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.stage.addEventListener("pointerdown", (event) => this.down(event));
    this.stage.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel"]) this.stage.addEventListener(name, (event) => this.up(event));
    this.stage.addEventListener("keydown", (event) => this.key(event));
    this.stage.addEventListener("dblclick", () => this.reset());
    this.stage.addEventListener("contextmenu", (event) => event.preventDefault());
    this.windowing = !matchMedia("(pointer: coarse)").matches;
    this.reset();
  }

  missing() {
    this.image.hidden = true;
    this.stage.querySelector(".missing").hidden = false;
  }

  reset() {
    Object.assign(this, { width: 1, level: 0.5, zoom: 1, x: 0, y: 0, inverted: false });
    this.show();
  }

  act(what, button) {
    const box = this.stage.getBoundingClientRect();
    if (what === "in") this.zoomTo(this.zoom * 1.3, box.width / 2, box.height / 2);
    if (what === "out") this.zoomTo(this.zoom / 1.3, box.width / 2, box.height / 2);
    if (what === "invert") this.inverted = !this.inverted;
    if (what === "window") this.windowing = !this.windowing;
    if (what === "reset") this.reset();
    this.show();
  }

  // keep the point of the film that is under (x, y) of the stage where it is
  zoomTo(zoom, x, y) {
    const next = Math.min(MOST, Math.max(1, zoom));
    this.x = x - ((x - this.x) * next) / this.zoom;
    this.y = y - ((y - this.y) * next) / this.zoom;
    this.zoom = next;
    this.show();
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.show();
  }

  setWindow(wider, brighter) {
    this.width = Math.min(2, Math.max(0.02, this.width * Math.exp(wider)));
    this.level = Math.min(1, Math.max(0, this.level + brighter));
    this.show();
  }

  show() {
    const box = this.stage.getBoundingClientRect();
    this.x = Math.min(0, Math.max(box.width * (1 - this.zoom), this.x));
    this.y = Math.min(0, Math.max(box.height * (1 - this.zoom), this.y));
    this.image.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.zoom})`;
    const sign = this.inverted ? -1 : 1;
    const slope = sign / this.width;
    const intercept = 0.5 - slope * this.level;
    for (const line of this.lines) {
      line.setAttribute("slope", slope);
      line.setAttribute("intercept", intercept);
    }
    this.stage.classList.toggle("zoomed", this.zoom > 1 || this.windowing);
    this.stage.querySelector(".burned").hidden = !(this.zoom > 1 || this.inverted || this.width < 1 || this.level !== 0.5);
    this.press("invert", this.inverted);
    this.press("window", this.windowing);
    this.figure.querySelector("output").textContent =
      `window ${Math.round(100 * this.width)} %, level ${Math.round(100 * this.level)} %, zoom ${this.zoom.toFixed(1)}`;
  }

  press(what, on) {
    this.figure.querySelector(`[data-do=${what}]`).setAttribute("aria-pressed", String(on));
  }

  wheel(event) {
    event.preventDefault();
    const box = this.stage.getBoundingClientRect();
    this.zoomTo(this.zoom * Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }

  down(event) {
    this.stage.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.panning = event.button !== 0 || event.shiftKey || !this.windowing;
    this.stage.classList.toggle("moving", this.panning);
  }

  moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    const other = [...this.pointers].find(([id]) => id !== event.pointerId);
    this.pointers.set(event.pointerId, now);
    if (other) {
      const apart = (point) => Math.hypot(point.x - other[1].x, point.y - other[1].y) || 1;
      const box = this.stage.getBoundingClientRect();
      const middle = { x: (now.x + other[1].x) / 2 - box.left, y: (now.y + other[1].y) / 2 - box.top };
      this.zoomTo((this.zoom * apart(now)) / apart(before), middle.x, middle.y);
      this.pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    } else if (this.panning) {
      this.pan(now.x - before.x, now.y - before.y);
    } else {
      this.setWindow((now.x - before.x) / 300, (now.y - before.y) / 600);
    }
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.stage.classList.remove("moving");
  }

  key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.shiftKey) this.setWindow(step[0] * 0.1, step[1] * 0.03);
    else if (this.zoom > 1) this.pan(-60 * step[0], -60 * step[1]);
    else return; // the arrows scroll the page as long as there is nothing to move
    event.preventDefault();
  }
}

document.querySelectorAll(".viewer").forEach((figure) => new Viewer(figure));
