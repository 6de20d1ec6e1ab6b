/* Draws motions on 2-D canvases: poses over time, a camera, and bodies on a floor with shadow, footprints and path.

   payload.py writes the data: {fps, step, fieldOfView, bodies, scenes: [{camera, takes}, ...]}.
   Points are [x, y, z] in metres, Y up, floor at y = 0. A body is made of parts, a part is the hull of balls. */
const adaclipStage = (() => {
"use strict";

const DATA = JSON.parse(document.getElementById("adaclip-data").textContent);
const LIGHT = [-0.5, -0.866]; // on screen: from the upper left

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const add = (a, b, scale = 1) => [a[0] + scale * b[0], a[1] + scale * b[1], a[2] + scale * b[2]];
const sub = (a, b) => add(a, b, -1);
const mid = (a, b) => add(a, sub(b, a), 0.5);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const unit = (a) => { const n = Math.hypot(...a); return n > 1e-6 ? a.map((x) => x / n) : [0, 1, 0]; };
const onGround = (a) => [a[0], 0, a[2]];

// --- Motion -----------------------------------------------------------------------------------------------------

/** Poses (one list of points per frame) from base64 zigzag varints: second differences between frames. */
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

/** Fill the hull of balls with a gradient, light towards the light and dark on the other side, and a thin dark rim. */
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
    const behind = tone === "body" ? 0.04 : 0;   // metres; draws limbs that touch the trunk over it, without flicker
    const depth = behind + discs.reduce((sum, disc) => sum + disc.depth, 0) / discs.length;
    return { tone, depth, discs, middle: mid(centres[0], centres[centres.length - 1]), radius: radii[0] };
  });
  return seen.sort((a, b) => b.depth - a.depth);
}

/** A soft dark disc; the shadow is made of such discs on the ground, one under each part. */
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

/** Draw the pelvis' path on the ground: all of it faintly, the part up to now firmly. */
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

/** Draw a footprint for every contact so far: strong while it lasts, then fading; a foot that slides leaves a smear. */
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

/** Draw one take. With `follow` the camera moves with the body, otherwise it shows the whole motion. */
function drawTake(view, take, time, follow) {
  const { canvas } = take, ctx = canvas.getContext("2d"), ratio = Math.min(window.devicePixelRatio || 1, 2);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  const pose = poseAt(take, time), [x, , z] = pose[0], distance = Math.min(view.distance, 4.6);
  const following = { ...view, target: [x, 0.85 * take.size, z], distance, ground: 3 };
  const camera = follow ? following : view, lens = lensOf(camera, width, height);
  const parts = bodyParts(take, pose, lens);
  drawGrid(ctx, lens, camera.target, camera.ground);
  drawTrail(ctx, lens, take, time, pose);
  drawShadow(ctx, lens, parts);
  drawFootprints(ctx, lens, take, time);
  const [near, far] = [parts[parts.length - 1].depth, parts[0].depth];
  if (near > 0.3) for (const part of parts) drawPart(ctx, part, (0.14 * (part.depth - near)) / (far - near + 1));
}

/** Take over the colours of the theme that the style sheet has set. */
function readColours() {
  const style = getComputedStyle(document.documentElement), value = (key) => style.getPropertyValue(`--${key}`).trim();
  for (const key of ["sky", "grid", "body", "left", "right", "trail", "shade"]) {
    colours[key] = [1, 3, 5].map((at) => parseInt(value(key).slice(at, at + 2), 16));
  }
  colours.shadow = Number(value("shadow"));
}

return { DATA, clamp, unpack, drawTake, readColours };
})();
