/* Plays the page's motions: one clock for all takes, one camera per scene, and what mouse, touch and keyboard do. */
(() => {
"use strict";

const { DATA, clamp, unpack, drawTake, readColours } = adaclipStage;
const HOLD = 0.7;             // seconds the last frame stays before a loop starts over
const $ = (id) => document.getElementById(id);

const cards = [...document.querySelectorAll(".scene")];
const scenes = DATA.scenes.map(({ camera, takes }, s) => {
  const canvases = cards[s].querySelectorAll("canvas"), home = { ...camera, zoom: 1 };
  return {
    element: cards[s].querySelector(".takes"), fingers: new Map(), visible: false, home, camera: { ...home },
    takes: takes.map((take, t) => ({ ...take, poses: unpack(take), canvas: canvases[t] })),
  };
});
const longest = (some) => Math.max(...some.flatMap(({ takes }) => takes.map(({ frames }) => (frames - 1) / DATA.fps)));
let duration = longest(scenes);   // seconds

// --- Clock ------------------------------------------------------------------------------------------------------

const hash = new URLSearchParams(location.hash.slice(1));   // #t=1.5&paused&theme=dark
const paused = hash.has("paused") || matchMedia("(prefers-reduced-motion: reduce)").matches;
let [time, playing, drawn, before] = [0, !paused, null, 0];   // seconds; drawn: the pending animation frame

/** Draw at the next animation frame, once, however many calls there are before it. */
const refresh = () => { drawn ??= requestAnimationFrame(tick); };

function tick(now) {
  drawn = null;
  if (playing) {
    time += (clamp(now - before, 0, 100) / 1000) * Number($("speed").value);
    if (time > duration + ($("loop").checked ? HOLD : 0)) $("loop").checked ? (time = 0) : setPlaying(false);
  }
  before = now;
  const shown = clamp(time, 0, duration);
  $("scrub").value = shown;
  $("scrub").setAttribute("aria-valuetext", `${shown.toFixed(2)} seconds`);
  $("clock").textContent = `${shown.toFixed(2)} / ${duration.toFixed(2)} s`;
  for (const { visible, camera, takes } of scenes) {
    if (visible) for (const take of takes) drawTake(camera, take, shown, $("follow").checked);
  }
  if (playing) refresh();
}

function setPlaying(value) {
  if (value && time >= duration) time = 0;
  [playing, before] = [value, performance.now()];
  $("play").classList.toggle("playing", value);
  $("play").setAttribute("aria-label", value ? "Pause" : "Play");
  refresh();
}

function seek(seconds) {
  time = clamp(Number(seconds) || 0, 0, duration);
  refresh();
}

/** Restart, with the length of the longest of these scenes. */
function limitTo(some) {
  duration = longest(some);
  $("scrub").max = duration || 1;
  seek(0);
}

function step(frames) {   // from the nearest frame
  setPlaying(false);
  seek((Math.round(clamp(time, 0, duration) * DATA.fps) + frames) / DATA.fps);
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = name === "dark" ? "Light theme" : "Dark theme";
  readColours();
  refresh();
}

// --- Input ------------------------------------------------------------------------------------------------------

function orbit(scene, dx, dy) {
  scene.camera.yaw -= dx;
  scene.camera.pitch = clamp(scene.camera.pitch + dy, -0.1, 1.5);
  refresh();
}

function zoom(scene, factor) {
  scene.camera.zoom = clamp(scene.camera.zoom * factor, 0.4, 5);
  refresh();
}

/** Move a pointer that is held down: one orbits; with two, their distance also zooms. */
function drag(scene, { pointerId, clientX, clientY }) {
  const { fingers } = scene, before = fingers.get(pointerId);
  if (!before) return;
  const others = [...fingers.entries()].filter(([id]) => id !== pointerId).map(([, at]) => at);
  if (others.length) {
    const apart = ([x, y]) => Math.hypot(x - others[0][0], y - others[0][1]) + 1;
    zoom(scene, apart([clientX, clientY]) / apart(before));
  }
  const turn = 150 * fingers.size;   // pixels per radian; two fingers do one finger's turn between them
  orbit(scene, (clientX - before[0]) / turn, (clientY - before[1]) / turn);
  fingers.set(pointerId, [clientX, clientY]);
}

for (const scene of scenes) {
  const { element, fingers } = scene;
  element.addEventListener("pointerdown", ({ target, pointerId, clientX, clientY }) => {
    if (target.tagName !== "CANVAS") return;
    fingers.set(pointerId, [clientX, clientY]);
    target.setPointerCapture(pointerId);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    element.addEventListener(end, ({ pointerId }) => fingers.delete(pointerId));
  }
  element.addEventListener("pointermove", (event) => drag(scene, event));
  element.addEventListener("touchmove", (event) => {   // two fingers zoom, one scrolls the page
    if (event.touches.length > 1 && event.cancelable) event.preventDefault();
  }, { passive: false });
  element.addEventListener("wheel", (event) => {
    if (!fingers.size && !event.ctrlKey) return;   // scroll the page
    event.preventDefault();
    zoom(scene, Math.exp(-event.deltaY / 500));
  }, { passive: false });
  element.addEventListener("dblclick", () => { scene.camera = { ...scene.home }; refresh(); });
  new ResizeObserver(refresh).observe(element);
  new IntersectionObserver(([entry]) => { scene.visible = entry.isIntersecting; refresh(); }).observe(element);
}

const faster = (by) => { $("speed").selectedIndex = clamp($("speed").selectedIndex + by, 0, $("speed").length - 1); };
const KEYS = {
  " ": () => setPlaying(!playing), ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => seek(0),
  End: () => seek(duration), "+": () => faster(1), "=": () => faster(1), "-": () => faster(-1),
  f: () => $("follow").click(), t: () => $("theme").click(),
};
const ZOOMS = { i: 1.15, o: 1 / 1.15 };
const ORBITS = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };

document.addEventListener("keydown", (event) => {
  const { key, target, shiftKey } = event, scene = scenes.find(({ element }) => element === target);
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (target.matches("select, input:is([type=radio], [type=text])")) return;
  if (key === " " && target.matches("button, input:not([type=range])")) return;   // space presses the focused control
  if (scene && shiftKey && ORBITS[key]) orbit(scene, ...ORBITS[key]);
  else if (ZOOMS[key]) (scene ? [scene] : scenes.filter(({ visible }) => visible)).forEach((one) => zoom(one, ZOOMS[key]));
  else if (KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
});
$("play").addEventListener("click", () => setPlaying(!playing));
$("scrub").addEventListener("input", () => seek($("scrub").value));
$("follow").addEventListener("change", refresh);
$("theme").addEventListener("click", () => {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
});

const night = matchMedia("(prefers-color-scheme: dark)"), byDay = () => (night.matches ? "dark" : "light");
night.addEventListener("change", () => setTheme(byDay()));
setTheme(hash.get("theme") || byDay());
limitTo(scenes);
seek(hash.get("t"));
setPlaying(playing);

window.adaclipPlayer = {
  get time() { return clamp(time, 0, duration); },
  get playing() { return playing; },
  get duration() { return duration; },
  scenes, seek, limitTo, play: () => setPlaying(true), pause: () => setPlaying(false),
};
})();
