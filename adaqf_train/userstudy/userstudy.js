/* Lets one participant rank the motions of every question, in an order of their own, and saves the answers.

   page.py writes the questions, {study, criteria, questions: [{id, takes: [id, ...]}, ...]}, in the order of the page's
   scenes; report.py reads the saved file. player.js, which is part of the same page, plays the motions. */
(() => {
"use strict";

const STUDY = JSON.parse(document.getElementById("adaclip-study").textContent);
const PLACE = `adaclip-study-${STUDY.study}`;   // in the browser's storage
const $ = (id) => document.getElementById(id);
const player = window.adaclipPlayer, scenes = [...document.querySelectorAll(".scene")];

/** Shuffles a copy of a list, seeded by words: FNV-1a seeds mulberry32, which drives Fisher and Yates. */
function shuffled(list, ...words) {
  let seed = 0x811c9dc5;
  for (const character of words.join("/")) seed = Math.imul(seed ^ character.codePointAt(0), 0x01000193);
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const result = [...list];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}

// --- The answers of the participant ------------------------------------------------------------------------------

const newcomer = () => ({
  participant: [...crypto.getRandomValues(new Uint8Array(8))].map((x) => x.toString(16).padStart(2, "0")).join(""),
  code: "", started: null, at: 0, ranks: {}, seconds: {},   // ranks: question -> criterion -> take -> rank
});

function remembered() {
  try { return JSON.parse(localStorage.getItem(PLACE)); } catch { return null; }   // storage may be disabled
}

function remember() {
  try { localStorage.setItem(PLACE, JSON.stringify(state)); } catch { /* a reload then starts over */ }
}

let state = remembered() ?? newcomer(), order = [], shownSince = 0;

const ranksOf = (question, criterion) => ((state.ranks[question.id] ??= {})[criterion] ??= {});
const complete = (question) => STUDY.criteria.every((name) => {
  const ranks = ranksOf(question, name);
  return question.takes.every((take) => ranks[take]);
});

/** Gives a take a rank. The take that had it gets the former rank of this one, so that no rank is given twice. */
function rank(question, criterion, take, value) {
  const ranks = ranksOf(question, criterion), former = ranks[take];
  const holder = question.takes.find((other) => other !== take && ranks[other] === value);
  if (holder) former ? (ranks[holder] = former) : delete ranks[holder];
  ranks[take] = value;
}

function answers() {
  const by = (question, name) => [...question.takes].sort((a, b) => ranksOf(question, name)[a] - ranksOf(question, name)[b]);
  return {
    study: STUDY.study, participant: state.participant, code: state.code, started: state.started,
    finished: new Date().toISOString(),
    answers: order.map((question) => ({
      question: question.id, shown: question.shown, seconds: Math.round(state.seconds[question.id] ?? 0),
      ranking: Object.fromEntries(STUDY.criteria.map((name) => [name, by(question, name)])),
    })),
  };
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(answers(), null, 2) + "\n"], { type: "application/json" }));
  link.download = `answers-${STUDY.study.slice(0, 6)}-${state.participant.slice(0, 8)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// --- The page ---------------------------------------------------------------------------------------------------

/** Puts the takes of each question into this participant's order, and letters them. */
function arrange() {
  const arranged = STUDY.questions.map((question, index) => {
    const shown = shuffled(question.takes, STUDY.study, state.participant, question.id);
    const caption = scenes[index].querySelector("h2").textContent, group = scenes[index].querySelector(".takes");
    shown.forEach((take, place) => {
      const figure = figures[index][question.takes.indexOf(take)], letter = String.fromCharCode(65 + place);
      figure.querySelector("strong").textContent = letter;
      figure.querySelector("canvas").setAttribute("aria-label", `Motion ${letter}: ${caption}`);
      for (const field of figure.querySelectorAll("fieldset")) {
        const name = field.dataset.criterion;
        field.setAttribute("aria-label", `${name} of motion ${letter}, 1 is best`);
        for (const input of field.querySelectorAll("input")) {
          input.name = `${question.id}-${take}-${name}`;
          input.onchange = () => {
            rank(question, name, take, Number(input.value));
            remember();
            showRanks(question, index);
          };
        }
      }
      group.append(figure);
    });
    return { ...question, shown, index };
  });
  order = shuffled(arranged, STUDY.study, state.participant);
}

function showRanks(question, index) {
  question.takes.forEach((take, number) => {
    for (const field of figures[index][number].querySelectorAll("fieldset")) {
      const value = ranksOf(question, field.dataset.criterion)[take];
      for (const input of field.querySelectorAll("input")) input.checked = Number(input.value) === value;
    }
  });
  $("progress").value = order.filter(complete).length;
  $("next").disabled = !complete(question);
  $("missing").textContent = complete(question) ? "" : `Give every motion a rank on ${STUDY.criteria.join(" and ")}.`;
}

const current = () => (state.started && state.at < order.length ? order[state.at] : null);

function show() {
  const question = current(), asking = Boolean(question);
  $("welcome").hidden = Boolean(state.started);
  $("done").hidden = !state.started || asking;
  for (const id of ["turn", "player", "asking"]) $(id).hidden = !asking;
  scenes.forEach((scene, index) => { scene.hidden = question?.index !== index; });
  if (!asking) return player.pause();
  $("back").disabled = state.at === 0;
  $("count").textContent = `${state.at + 1} of ${order.length}`;
  showRanks(question, question.index);
  player.limitTo([player.scenes[question.index]]);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) player.play();
  shownSince = performance.now();
}

function go(to) {
  const question = current();
  if (question) state.seconds[question.id] = (state.seconds[question.id] ?? 0) + (performance.now() - shownSince) / 1000;
  state.at = to;
  remember();
  show();
  scrollTo(0, 0);
  document.querySelector(".scene:not([hidden]) h2, #done:not([hidden]) h2")?.focus({ preventScroll: true });
}

const figures = scenes.map((scene) => [...scene.querySelectorAll(".take")]);
$("start").addEventListener("click", () => {
  [state.code, state.started] = [$("code").value.trim(), new Date().toISOString()];
  go(0);
});
$("back").addEventListener("click", () => go(state.at - 1));
$("next").addEventListener("click", () => go(state.at + 1));
$("review").addEventListener("click", () => go(0));
$("save").addEventListener("click", save);
$("again").addEventListener("click", () => {
  if (!confirm("Have you saved these answers? This page will delete them.")) return;
  state = newcomer();
  $("code").value = "";
  arrange();
  go(0);
});
arrange();
show();
})();
