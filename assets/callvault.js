// Makes the pages quicker; all of them work without it. No state is kept but the speed of playing.
"use strict";

document.documentElement.classList.add("js");

const SPEEDS = [0.75, 1, 1.25, 1.5, 1.75, 2];
const STEP = 5;
const SVG = {
  play: "M4.5 2.8v10.400l8.5-5.200z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  close: "M4 4l8 8M12 4l-8 8",
};

function el(name, props = {}, ...kids) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (key in node && key !== "role") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...kids);
  return node;
}

function icon(name) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(ns, "path");
  path.setAttribute("d", SVG[name]);
  if (name !== "close") path.setAttribute("class", "solid");
  svg.append(path);
  return svg;
}

function clock(seconds) {
  const s = Math.max(0, Math.floor(seconds || 0));
  const [h, m, rest] = [Math.floor(s / 3600), Math.floor(s / 60) % 60, String(s % 60).padStart(2, "0")];
  return h ? `${h}:${String(m).padStart(2, "0")}:${rest}` : `${m}:${rest}`;
}

function remembered() {
  try {
    const speed = Number(localStorage.getItem("callvault.speed"));
    return SPEEDS.includes(speed) ? speed : 1;
  } catch { return 1; }
}

function remember(speed) {
  try { localStorage.setItem("callvault.speed", String(speed)); } catch { /* then not */ }
}

// A player around an <audio>: play, the waveform to click into, the time, the speed.
class Deck {
  constructor(audio, { waveform, seconds }) {
    this.audio = audio;
    this.seconds = Number(seconds) || 0;
    this.peaks = null;
    this.go = el("button", { type: "button", className: "go primary", "aria-label": "Play" }, icon("play"));
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.wave = el("div", { className: "wave", tabIndex: 0, role: "slider", "aria-label": "Position", "aria-valuemin": "0" }, this.canvas);
    this.now = el("b", { textContent: "0:00" });
    this.total = el("span");
    this.at = el("span", { className: "at" }, this.now, " / ", this.total);
    this.speed = el("select", { className: "speed", "aria-label": "Speed" },
      ...SPEEDS.map((speed) => el("option", { value: String(speed), textContent: `${speed}×` })));
    this.said = el("span", { className: "said problem", role: "alert", hidden: true });
    this.node = el("div", { className: "deck" }, this.go, this.wave, this.at, this.speed, this.said);
    this.listen();
    this.show();
    if (waveform) this.fetch(waveform);
  }

  listen() {
    const { audio } = this;
    this.go.addEventListener("click", () => this.toggle());
    for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, () => this.show());
    for (const name of ["timeupdate", "seeking", "loadedmetadata", "durationchange"]) audio.addEventListener(name, () => this.draw());
    audio.addEventListener("error", () => this.fail());
    audio.addEventListener("play", () => this.move());
    this.speed.value = String(remembered());
    this.speed.addEventListener("change", () => { remember(Number(this.speed.value)); this.pace(); });
    audio.addEventListener("loadedmetadata", () => this.pace());
    this.pace();
    const seek = (event) => {
      const box = this.wave.getBoundingClientRect();
      this.seek(this.length() * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    };
    this.wave.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.wave.setPointerCapture(event.pointerId);
      seek(event);
    });
    this.wave.addEventListener("pointermove", (event) => { if (this.wave.hasPointerCapture(event.pointerId)) seek(event); });
    this.wave.addEventListener("keydown", (event) => {
      if (event.key === "Home") this.seek(0);
      else if (event.key === "End") this.seek(this.length());
      else return;
      event.preventDefault();
    });
    new ResizeObserver(() => this.draw()).observe(this.wave);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  async fetch(address) {
    try {
      const answer = await fetch(address, { headers: { accept: "application/json" } });
      if (!answer.ok) return;
      const { peaks, seconds } = await answer.json();
      this.peaks = peaks;
      this.seconds = this.seconds || seconds;
      this.draw();
    } catch { /* a line without peaks will do */ }
  }

  length() {
    return Number.isFinite(this.audio.duration) && this.audio.duration > 0 ? this.audio.duration : this.seconds;
  }

  seek(seconds) {
    this.audio.currentTime = Math.min(Math.max(0, seconds), this.length());
    this.draw();
  }

  skip(seconds) { this.seek(this.audio.currentTime + seconds); }

  toggle() {
    if (this.audio.paused) this.audio.play().catch(() => this.fail());
    else this.audio.pause();
  }

  pace() {
    this.audio.preservesPitch = true;
    this.audio.playbackRate = Number(this.speed.value);
  }

  fail() {
    this.said.hidden = false;
    this.said.textContent = "This recording can't be played here. Download it to listen to it.";
  }

  // Smoother than the browser's own four ticks a second.
  move() {
    if (this.audio.paused || !this.node.isConnected) return;
    this.draw();
    requestAnimationFrame(() => this.move());
  }

  show() {
    const playing = !this.audio.paused && !this.audio.ended;
    this.go.replaceChildren(icon(playing ? "pause" : "play"));
    this.go.setAttribute("aria-label", playing ? "Pause" : "Play");
    this.draw();
  }

  draw() {
    const [length, at] = [this.length(), this.audio.currentTime || 0];
    this.now.textContent = clock(at);
    this.total.textContent = clock(length);
    this.wave.setAttribute("aria-valuemax", String(Math.round(length)));
    this.wave.setAttribute("aria-valuenow", String(Math.round(at)));
    this.wave.setAttribute("aria-valuetext", `${clock(at)} of ${clock(length)}`);
    this.paint(length ? at / length : 0);
  }

  paint(played) {
    const { width, height } = this.wave.getBoundingClientRect();
    if (!width) return;
    const scale = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
    }
    const style = getComputedStyle(this.wave);
    const colour = (name) => style.getPropertyValue(name).trim();
    const colours = { wave: colour("--wave"), silent: colour("--wave-silent"), played: colour("--wave-played") };
    const draw = this.canvas.getContext("2d");
    draw.setTransform(scale, 0, 0, scale, 0, 0);
    draw.clearRect(0, 0, width, height);
    const bars = Math.max(1, Math.floor(width / 3));
    for (let bar = 0; bar < bars; bar += 1) {
      const peak = this.peak(bar, bars);
      const tall = Math.max(2, Math.sqrt(peak) * (height - 4));
      draw.fillStyle = bar / bars < played ? colours.played : peak < 0.02 ? colours.silent : colours.wave;
      draw.fillRect(bar * 3, (height - tall) / 2, 2, tall);
    }
    draw.fillStyle = colours.played;
    draw.fillRect(Math.min(width - 2, Math.max(0, played * width - 1)), 0, 2, height);
  }

  // The loudest of the peaks that fall into a bar.
  peak(bar, bars) {
    if (!this.peaks || !this.peaks.length) return 0;
    const from = Math.floor((bar / bars) * this.peaks.length);
    const to = Math.max(from + 1, Math.floor(((bar + 1) / bars) * this.peaks.length));
    return Math.max(...this.peaks.slice(from, to));
  }
}

let current = null;

// On a call's page the player stands in the page.
for (const box of document.querySelectorAll(".player")) {
  const audio = box.querySelector("audio");
  const deck = new Deck(audio, box.dataset);
  audio.controls = false;
  audio.hidden = true;
  box.append(deck.node);
  deck.draw();
  audio.addEventListener("play", () => {
    if (current && current !== deck) current.audio.pause();
    current = deck;
  });
  current = current || deck;
}

// In the search it stands at the bottom, so that listening does not leave the search.
const dock = document.getElementById("dock");

function listen(button) {
  const row = button.closest("tr");
  const same = current && current.row === row;
  if (same) { current.toggle(); return; }
  shut();
  const audio = el("audio", { preload: "auto", src: button.dataset.audio });
  const deck = new Deck(audio, button.dataset);
  deck.row = row;
  const text = (selector) => (row.querySelector(selector)?.textContent || "").trim();
  const name = text(".name") || text(".number") || "Unknown customer";
  const what = el("a", { className: "what", href: row.dataset.href },
    el("b", {}, el("bdi", { textContent: name })), el("span", { textContent: text("time") }));
  const close = el("button", { type: "button", className: "shut", "aria-label": "Close the player" }, icon("close"));
  close.addEventListener("click", () => { shut(); button.focus(); });
  deck.go.after(what);
  deck.said.before(close);
  dock.replaceChildren(deck.node, audio);
  dock.hidden = false;
  document.body.classList.add("docked");
  row.classList.add("playing");
  audio.addEventListener("play", () => mark(button, true));
  for (const name of ["pause", "ended"]) audio.addEventListener(name, () => mark(button, false));
  current = deck;
  deck.draw();
  deck.toggle();
}

function mark(button, playing) {
  button.replaceChildren(icon(playing ? "pause" : "play"));
}

function shut() {
  if (!dock || !current) return;
  current.audio.pause();
  if (current.row) {
    current.row.classList.remove("playing");
    mark(current.row.querySelector(".play"), false);
  }
  dock.hidden = true;
  dock.replaceChildren();
  document.body.classList.remove("docked");
  current = null;
}

function ready(root) {
  for (const button of root.querySelectorAll("button.play")) button.hidden = false;
}
ready(document);

// A line of the result is one big link, unless somebody is selecting text in it.
document.addEventListener("click", (event) => {
  const play = event.target.closest("button.play");
  if (play) { listen(play); return; }
  const row = event.target.closest("tr[data-href]");
  if (!row || event.target.closest("a, button") || String(getSelection())) return;
  if (event.metaKey || event.ctrlKey) window.open(row.dataset.href, "_blank", "noopener");
  else location.assign(row.dataset.href);
});

// More lines come without a new page.
document.addEventListener("click", async (event) => {
  const more = event.target.closest("#more");
  if (!more || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  if (more.hasAttribute("aria-busy")) return;
  more.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(more.href, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const lines = [...page.querySelectorAll("#results tbody tr")];
    if (!answer.ok || answer.redirected || !lines.length) throw new Error("no lines");
    ready(page);
    const body = document.querySelector("#results tbody");
    const adopted = lines.map((line) => document.adoptNode(line));
    body.append(...adopted);
    const next = page.getElementById("more");
    if (next) more.replaceWith(document.adoptNode(next));
    else more.parentElement.remove();
    adopted[0].querySelector("a")?.focus({ preventScroll: true });
  } catch { location.assign(more.href); }
});

// Empty fields would only make the address longer.
document.getElementById("search")?.addEventListener("submit", (event) => {
  const form = event.currentTarget;
  const empty = [...form.elements].filter((field) => field.name && !field.value);
  for (const field of empty) field.disabled = true;
  setTimeout(() => { for (const field of empty) field.disabled = false; });
});

// Back to the search as it was.
const back = document.getElementById("back");
if (back && document.referrer) {
  const from = new URL(document.referrer);
  if (from.origin === location.origin && from.pathname === "/") back.href = from.pathname + from.search;
}

// The clipboard is there on secure pages only.
if (navigator.clipboard) {
  for (const code of document.querySelectorAll("[data-copy]")) {
    const button = el("button", { type: "button", className: "copy", textContent: "Copy" });
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch { button.textContent = "Not allowed"; }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    code.after(button);
  }
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey) return;
  const field = event.target.closest("input, select, textarea, [contenteditable]");
  if (event.key === "/" && !field) {
    const box = document.getElementById("q");
    if (box) { event.preventDefault(); box.focus(); box.select(); }
    return;
  }
  if (!current || field) return;
  if (event.key === " " && !event.target.closest("button, a, summary")) current.toggle();
  else if (event.key === "ArrowLeft") current.skip(-STEP);
  else if (event.key === "ArrowRight") current.skip(STEP);
  else return;
  event.preventDefault();
});
