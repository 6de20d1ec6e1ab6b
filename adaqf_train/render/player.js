/* Plays the page's motions: one clock for all takes, one camera per scene, a small renderer on 2-D canvases.

   page.py writes the data and documents them: {fps, step, fieldOfView, bodies, scenes: [{camera, takes}, ...]}.
   Points are [x, y, z] in metres, Y up, floor at y = 0. A body is made of parts, a part is the hull of balls. */
(() => {
"use strict";

const DATA = JSON.parse(document.getElementById("adaclip-data").textContent);
const HOLD = 0.7;             // seconds the last frame stays before a loop starts over
const LIGHT = [-0.5, -0.866]; // on screen: from the upper left
const $ = (id) => document.getElementById(id);

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const add = (a, b, scale = 1) => [a[0] + scale * b[0], a[1] + scale * b[1], a[2] + scale * b[2]];
const sub = (a, b) => add(a, b, -1);
const mid = (a, b) => add(a, sub(b, a), 0.5);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const unit = (a) => { const n = Math.hypot(...a); return n > 1e-6 ? a.map((x) => x / n) : [0, 1, 0]; };
const onGround = (a) => [a[0], 0, a[2]];

// --- Motion -----------------------------------------------------------------------------------------------------

/** Poses (one list of points per frame) from base64 zigzag varints: by how much each difference of frames changes. */
function unpack({ data, frames, joints }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const last = new Int32Array(joints * 3), speed = new Int32Array(joints * 3);
  let at = 0;
  const next = () => {
    let value = 0, shift = 0, byte;
    do { byte = bytes[at++]; value |= (byte & 127) << shift; shift += 7; } while (byte & 128);
    return (value >>> 1) ^ -(value & 1);
  };
  const point = (_, j) => [0, 1, 2].map((k) => (last[3 * j + k] += speed[3 * j + k] += next()) * DATA.step);
  const pose = () => Array.from({ length: joints }, point);
  return Array.from({ length: frames }, pose);
}

/** The joints at a time in seconds: Catmull-Rom between frames; the last frame holds. */
function poseAt({ poses, frames }, time) {
  const at = clamp(time * DATA.fps, 0, frames - 1), i = Math.floor(at), u = at - i;
  const [p, q, r, s] = [i - 1, i, i + 1, i + 2].map((row) => poses[clamp(row, 0, frames - 1)]);
  const a = (u * (-1 + u * (2 - u))) / 2, b = 1 + (u * u * (-5 + 3 * u)) / 2;
  const c = (u * (1 + u * (4 - 3 * u))) / 2, d = (u * u * (u - 1)) / 2;
  return q.map((_, j) => [0, 1, 2].map((k) => a * p[j][k] + b * q[j][k] + c * r[j][k] + d * s[j][k]));
}

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

// --- Camera -----------------------------------------------------------------------------------------------------

/** A function from a point to {x, y: canvas pixels, scale: pixels per metre there, depth: metres from the eye}. */
function lensOf({ yaw, pitch, distance, zoom, target }, width, height) {
  const [sy, cy, sp, cp] = [Math.sin(yaw), Math.cos(yaw), Math.sin(pitch), Math.cos(pitch)];
  const back = [sy * cp, sp, cy * cp], right = [cy, 0, -sy], up = [-sy * sp, cp, -cy * sp];
  const focal = height / 2 / Math.tan(DATA.fieldOfView / 2);
  return (point) => {
    const p = sub(point, target), depth = distance / zoom - dot(p, back), scale = focal / Math.max(depth, 0.05);
    return { x: width / 2 + scale * dot(p, right), y: height / 2 - scale * dot(p, up), scale, depth };
  };
}

// --- Drawing ----------------------------------------------------------------------------------------------------

const colours = {}, WHITE = [255, 255, 255];
const css = ([r, g, b], alpha = 1) => `rgba(${r | 0},${g | 0},${b | 0},${alpha})`;
const blend = (a, b, u) => a.map((x, i) => x + (b[i] - x) * u);

/** The convex hull of 2-D points, as a path of straight lines (Andrew's monotone chain). */
function tracePoints(ctx, points) {
  points.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const half = (sorted) => {
    const chain = [];
    for (const p of sorted) {
      for (let n = chain.length; n > 1; n = chain.length) {
        const [a, b] = [chain[n - 2], chain[n - 1]];
        if ((b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) > 0) break;
        chain.pop();
      }
      chain.push(p);
    }
    return chain.slice(0, -1);
  };
  ctx.beginPath();
  for (const [x, y] of [...half(points), ...half(points.slice().reverse())]) ctx.lineTo(x, y);
  ctx.closePath();
}

const CIRCLE = Array.from({ length: 40 }, (_, i) => [Math.cos((i * Math.PI) / 20), Math.sin((i * Math.PI) / 20)]);
const COARSE = CIRCLE.filter((_, i) => i % 2);

/** Fill the hull of balls as if it were round: lit on the side of the light, dark on the other, a thin dark rim. */
function drawPart(ctx, { discs, tone }, haze) {
  const points = discs.flatMap(({ x, y, r }) => (r > 12 ? CIRCLE : COARSE).map(([c, s]) => [x + r * c, y + r * s]));
  const [first, last] = [discs[0], discs[discs.length - 1]];
  const [ax, ay] = [last.x - first.x, last.y - first.y], length = Math.hypot(ax, ay) + 1e-6;
  const along = ((LIGHT[0] * ax + LIGHT[1] * ay) / length) * Math.min(1, length / (2 * first.r));
  const [nx, ny] = unit([LIGHT[0] - (along * ax) / length, LIGHT[1] - (along * ay) / length, 0]);
  const reach = points.map(([x, y]) => x * nx + y * ny), low = Math.min(...reach), high = Math.max(...reach);
  const [cx, cy] = [(first.x + last.x) / 2, (first.y + last.y) / 2], c = cx * nx + cy * ny;
  const gradient = ctx.createLinearGradient(...[high - c, low - c].flatMap((u) => [cx + u * nx, cy + u * ny]));
  const base = blend(colours[tone], colours.sky, haze);
  const stops = [[0, WHITE, 0.16], [0.22, WHITE, 0.3], [0.55, WHITE, 0], [1, colours.shade, 0.42]];
  for (const [at, towards, share] of stops) gradient.addColorStop(at, css(blend(base, towards, share)));
  tracePoints(ctx, points);
  ctx.fillStyle = gradient;
  ctx.fill();
  ctx.strokeStyle = css(blend(base, colours.shade, 0.62), 0.5);
  ctx.lineWidth = 0.8;
  ctx.stroke();
}

/** The parts of a body in a pose, far ones first, as a lens sees them: [{tone, depth, discs, middle, radius}]. */
function bodyParts(take, pose, lens) {
  const { parts, hips } = DATA.bodies[take.joints], across = sub(pose[hips[0]], pose[hips[1]]);
  const forward = unit([-across[2], 0, across[0]]);
  const centre = ({ of, ahead }) =>
    of.reduce((sum, [joint, weight]) => add(sum, pose[joint], weight), forward.map((x) => x * ahead * take.size));
  const seen = parts.map(({ tone, balls }) => {
    const centres = balls.map(centre), radii = balls.map(({ radius }) => radius * take.size);
    const discs = centres.map(lens).map((disc, i) => ({ ...disc, r: radii[i] * disc.scale }));
    const behind = tone === "body" ? 0.04 : 0;   // metres; in doubt a limb is over the trunk, and does not flicker
    const depth = behind + discs.reduce((sum, disc) => sum + disc.depth, 0) / discs.length;
    return { tone, depth, discs, middle: mid(centres[0], centres[centres.length - 1]), radius: radii[0] };
  });
  return seen.sort((a, b) => b.depth - a.depth);
}

/** A soft dark disc; drawn flat on the ground under each ball it makes the shadow. */
const blot = (() => {
  const canvas = new OffscreenCanvas(64, 64), ctx = canvas.getContext("2d");
  const gradient = ctx.createRadialGradient(32, 32, 0, 32, 32, 32);
  [1, 0.7, 0.2, 0].forEach((alpha, i) => gradient.addColorStop(i / 3, css([0, 0, 0], alpha)));
  ctx.fillStyle = gradient;
  ctx.fillRect(0, 0, 64, 64);
  return canvas;
})();

function drawShadow(ctx, lens, parts) {
  const ratio = ctx.getTransform();
  for (const { middle, radius } of parts) {
    const height = Math.max(middle[1], 0), reach = 1.9 * radius + 0.08 + 0.1 * height, centre = onGround(middle);
    const [c, e, s] = [lens(centre), lens(add(centre, [reach, 0, 0])), lens(add(centre, [0, 0, reach]))];
    if (c.depth < reach + 0.1) continue;
    ctx.globalAlpha = colours.shadow / (1 + 0.9 * height);
    ctx.transform((e.x - c.x) / 32, (e.y - c.y) / 32, (s.x - c.x) / 32, (s.y - c.y) / 32, c.x, c.y);
    ctx.drawImage(blot, -32, -32);
    ctx.setTransform(ratio);
  }
  ctx.globalAlpha = 1;
}

/** Lines every half metre (strong ones every metre) that fade with the distance from the middle of the motion. */
function drawGrid(ctx, lens, centre, radius) {
  const reach = Math.ceil(radius * 1.6), fades = {};
  const [ox, oz] = [Math.round(centre[0]), Math.round(centre[2])];
  const line = (a, b, strong) => {
    const m = mid(a, b), far = Math.hypot(m[0] - centre[0], m[2] - centre[2]) / reach;
    const alpha = Math.round(clamp(1 - far * far, 0, 1) * 8) / 8 * (strong ? 0.5 : 0.2);
    const [p, q] = [lens(a), lens(b)];
    if (!alpha || Math.min(p.depth, q.depth) < 0.2) return;
    (fades[alpha] ??= []).push(p, q);
  };
  for (let u = -reach, cell = reach > 12 ? 1 : 0.5; u <= reach; u += cell) {
    for (let v = -reach; v < reach; v += cell) {
      line([ox + u, 0, oz + v], [ox + u, 0, oz + v + cell], u % (2 * cell) === 0);
      line([ox + v, 0, oz + u], [ox + v + cell, 0, oz + u], u % (2 * cell) === 0);
    }
  }
  ctx.lineWidth = 1;
  for (const [alpha, ends] of Object.entries(fades)) {
    ctx.strokeStyle = css(colours.grid, alpha);
    ctx.beginPath();
    ends.forEach(({ x, y }, i) => (i % 2 ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
    ctx.stroke();
  }
}

/** The pelvis' path on the ground: all of it faintly, what has been walked so far firmly. */
function drawTrail(ctx, lens, take, time, pose) {
  const path = take.poses.map((p) => lens(onGround(p[0])));
  const past = [...path.slice(0, Math.floor(time * DATA.fps) + 1), lens(onGround(pose[0]))];
  for (const [points, alpha, width] of [[path, 0.25, 1.2], [past, 0.75, 2]]) {
    ctx.beginPath();
    for (const { x, y, depth } of points) if (depth > 0.2) ctx.lineTo(x, y);
    ctx.strokeStyle = css(colours.trail, alpha);
    ctx.lineWidth = width;
    ctx.stroke();
  }
}

/** A mark for every contact so far: strong while it lasts, then fading; a foot that slides leaves a smear. */
function drawFootprints(ctx, lens, take, time) {
  const at = time * DATA.fps, feet = DATA.bodies[take.joints].feet;
  for (const [foot, from, to] of take.contacts) {
    if (at < from) continue;
    const [ankle, toe, side] = feet[foot], now = take.poses[Math.min(Math.round(at), to)];
    const discs = [[now[ankle], 0.04], [now[toe], 0.05], [take.poses[from][toe], 0.05]];
    const rim = discs.flatMap(([[x, , z], r]) => COARSE.map(([c, s]) => lens([x + c * r, 0, z + s * r])));
    if (rim.some(({ depth }) => depth < 0.2)) continue;
    tracePoints(ctx, rim.map(({ x, y }) => [x, y]));
    ctx.fillStyle = css(colours[side], 0.2 + 0.5 * Math.exp(-Math.max(0, at - to) / DATA.fps / 0.6));
    ctx.fill();
  }
}

/** One take at a time. With "follow" the camera goes along with the body, otherwise it shows the whole motion. */
function drawTake(scene, take, time) {
  const { canvas } = take, ctx = canvas.getContext("2d"), ratio = Math.min(window.devicePixelRatio || 1, 2);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  const pose = poseAt(take, time), [x, , z] = pose[0], distance = Math.min(scene.camera.distance, 4.6);
  const following = { ...scene.camera, target: [x, 0.85 * take.size, z], distance, ground: 3 };
  const camera = $("follow").checked ? following : scene.camera, lens = lensOf(camera, width, height);
  const parts = bodyParts(take, pose, lens);
  drawGrid(ctx, lens, camera.target, camera.ground);
  drawTrail(ctx, lens, take, time, pose);
  drawShadow(ctx, lens, parts);
  drawFootprints(ctx, lens, take, time);
  const [near, far] = [parts[parts.length - 1].depth, parts[0].depth];
  if (near > 0.3) for (const part of parts) drawPart(ctx, part, (0.14 * (part.depth - near)) / (far - near + 1));
}

// --- Clock ------------------------------------------------------------------------------------------------------

const hash = new URLSearchParams(location.hash.slice(1));   // #t=1.5&paused&theme=dark
const paused = hash.has("paused") || matchMedia("(prefers-reduced-motion: reduce)").matches;
let [time, playing, drawn, before] = [0, !paused, null, 0];   // seconds; drawn: the pending animation frame

/** Ask for a drawing at the next animation frame, however often it is asked. */
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
  for (const scene of scenes) if (scene.visible) for (const take of scene.takes) drawTake(scene, take, shown);
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

/** From its start, and as long as the longest of these scenes. */
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
  document.documentElement.dataset.theme = colours.name = name;
  $("theme").textContent = name === "dark" ? "Light theme" : "Dark theme";
  const style = getComputedStyle(document.documentElement), value = (key) => style.getPropertyValue(`--${key}`).trim();
  for (const key of ["sky", "grid", "body", "left", "right", "trail", "shade"]) {
    colours[key] = [1, 3, 5].map((at) => parseInt(value(key).slice(at, at + 2), 16));
  }
  colours.shadow = Number(value("shadow"));
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

/** A pointer that is held down has moved: one orbits, with two their distance zooms as well. */
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
  element.addEventListener("touchmove", (event) => {   // two fingers are ours, one may scroll the page
    if (event.touches.length > 1 && event.cancelable) event.preventDefault();
  }, { passive: false });
  element.addEventListener("wheel", (event) => {
    if (!fingers.size && !event.ctrlKey) return;   // the page's own scrolling
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
  if (event.ctrlKey || event.altKey || event.metaKey || target.matches("select, input:is([type=radio], [type=text])")) return;
  if (key === " " && target.matches("button, input:not([type=range])")) return;   // space presses what has the focus
  if (scene && shiftKey && ORBITS[key]) orbit(scene, ...ORBITS[key]);
  else if (ZOOMS[key]) for (const one of scene ? [scene] : scenes.filter(({ visible }) => visible)) zoom(one, ZOOMS[key]);
  else if (KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
});
$("play").addEventListener("click", () => setPlaying(!playing));
$("scrub").addEventListener("input", () => seek($("scrub").value));
$("follow").addEventListener("change", refresh);
$("theme").addEventListener("click", () => setTheme(colours.name === "dark" ? "light" : "dark"));

const night = matchMedia("(prefers-color-scheme: dark)"), byDay = () => (night.matches ? "dark" : "light");
night.addEventListener("change", () => setTheme(byDay()));
setTheme(hash.get("theme") || byDay());
limitTo(scenes);
seek(hash.get("t"));
setPlaying(playing);

window.adaclipPlayer = {
  get time() { return clamp(time, 0, duration); }, get playing() { return playing; }, get duration() { return duration; },
  scenes, seek, limitTo, play: () => setPlaying(true), pause: () => setPlaying(false),
};
})();
