// Filter, sort and page the clips in the columns of CLIPS, which another script assigns. The fragment of the address
// is the only state: controls change it, and each change draws the page. Text is untrusted: it is set as text only.
"use strict";

const PER_PAGE = 60;
const SEARCHED = ["name", "source", "caption", "licence", "attribution"];
const FILTERS = ["q", "verdict", "kind", "term", "licence", "score", "min", "max", "playable"];
const form = document.getElementById("filters");
const pageInput = document.getElementById("page");
const words = (name) => name.replaceAll("_", " ");
const count = (number) => number.toLocaleString("en");

function text(name, row) {
  const column = CLIPS.texts[name];
  return column.values[column.codes[row]];
}

function number(name) {
  return CLIPS.numbers.find((column) => column.name === name);
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children); // strings become text nodes
  return made;
}

// --- state of the view

function state() {
  return new URLSearchParams(location.hash.slice(1));
}

function change(changes) {
  const view = state();
  if (!("page" in changes)) view.delete("page");
  for (const [name, value] of Object.entries(changes)) {
    if (value) view.set(name, value);
    else view.delete(name);
  }
  location.replace("#" + view); // draws, by hashchange
}

function read(view) {
  const score = number(view.get("score")) ?? CLIPS.numbers[0];
  const limit = (name) => (view.get(name) ? Number(view.get(name)) : null);
  return {
    words: (view.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean),
    low: limit("min"), high: limit("max"), score,
    sort: view.get("sort") ?? "clip", sign: view.get("order") === "down" ? -1 : 1,
    page: Math.max(1, Math.floor(Number(view.get("page"))) || 1),
  };
}

// --- filter and sort

// Whether each distinct value of a column passes, as a test of clips: `passes` sees each value once.
function byValue(name, passes) {
  const column = CLIPS.texts[name];
  const passed = column.values.map(passes);
  return (row) => passed[column.codes[row]];
}

function lowered(name) {
  const column = CLIPS.texts[name];
  return (column.lowered ??= column.values.map((value) => value.toLowerCase()));
}

function tests(view) {
  const { words: searched, low, high, score } = read(view);
  const found = [];
  const verdict = view.get("verdict"), term = view.get("term");
  if (verdict === "filtered") found.push(byValue("verdict", (value) => value !== "kept"));
  else if (verdict) found.push(byValue("verdict", (value) => value === verdict));
  for (const name of ["kind", "licence"]) {
    const wanted = view.get(name);
    if (wanted) found.push(byValue(name, (value) => value === wanted));
  }
  if (term) found.push(byValue("terms", (value) => value.split(", ").includes(term)));
  if (low !== null) found.push((row) => score.values[row] !== null && score.values[row] >= low);
  if (high !== null) found.push((row) => score.values[row] !== null && score.values[row] <= high);
  if (view.get("playable")) found.push((row) => row in CLIPS.previews);
  for (const word of searched) {
    const any = SEARCHED.map((name) => byValue(name, (_, code) => lowered(name)[code].includes(word)));
    found.push((row) => any.some((test) => test(row)));
  }
  return found;
}

function matching(view) {
  const wanted = tests(view);
  const rows = [];
  for (let row = 0; row < CLIPS.count; row++) if (wanted.every((test) => test(row))) rows.push(row);
  return rows;
}

// Sort rows in place; clips without the value come last in both directions. Codes are ranks of their texts.
function sort(rows, name, sign) {
  const keys = number(name)?.values ?? CLIPS.texts[name]?.codes;
  if (!keys) return sign < 0 ? rows.reverse() : rows;
  const none = (row) => keys[row] === null || CLIPS.texts[name]?.values[keys[row]] === "";
  const known = rows.filter((row) => !none(row));
  known.sort((a, b) => sign * (keys[a] - keys[b]) || a - b);
  return known.concat(rows.filter(none));
}

// --- draw the page

function draw() {
  const view = state();
  const { sort: sorted, sign, page } = read(view);
  const rows = sort(matching(view), sorted, sign);
  const pages = Math.max(1, Math.ceil(rows.length / PER_PAGE));
  const shown = Math.min(page, pages);
  for (const name of FILTERS) fill(form.elements[name], view.get(name) ?? "");
  for (const button of document.querySelectorAll("[data-sort]")) {
    const heading = button.closest("th");
    if (button.dataset.sort === sorted) heading.ariaSort = sign < 0 ? "descending" : "ascending";
    else heading.removeAttribute("aria-sort");
  }
  document.getElementById("found").textContent =
    `${count(rows.length)} of ${count(CLIPS.count)} clips` + (pages > 1 ? `, page ${shown} of ${count(pages)}` : "");
  document.getElementById("previous").disabled = shown === 1;
  document.getElementById("next").disabled = shown === pages;
  pageInput.max = pages;
  pageInput.value = shown;
  const start = (shown - 1) * PER_PAGE;
  document.getElementById("rows").replaceChildren(...rows.slice(start, start + PER_PAGE).map(clip));
  document.getElementById("scroll").scrollTop = 0;
}

function filters() {
  const value = (control) => (control.type === "checkbox" && !control.checked ? "" : control.value);
  const chosen = Object.fromEntries(FILTERS.map((name) => [name, value(form.elements[name])]));
  return { ...chosen, score: chosen.score === CLIPS.numbers[0].name ? "" : chosen.score };
}

function fill(control, value) {
  if (control === document.activeElement && control.type !== "checkbox") return; // do not disturb typing
  if (control.type === "checkbox") control.checked = Boolean(value);
  else if (control.name === "score") control.value = value || CLIPS.numbers[0].name;
  else control.value = value;
}

function clip(row) {
  const name = element("bdi", {}, text("name", row));
  const about = element("span", { className: "small soft" }, `${text("kind", row)}, ${text("size", row)}`);
  const licence = element("td", {}, element("bdi", {}, text("licence", row) || "unknown"));
  const attribution = text("attribution", row);
  if (attribution) licence.append(element("br"), element("bdi", { className: "small soft" }, attribution));
  const verdict = text("verdict", row);
  const key = element("span", { className: verdict === "kept" ? "key done" : "key filtered" });
  const source = element("td", {}, element("bdi", {}, text("source", row)), element("br"));
  source.append(element("bdi", { className: "small soft" }, text("view", row)));
  return element(
    "tr", {},
    element("th", { scope: "row" }, preview(row), name, element("br"), about),
    element("td", { className: "verdict" }, key, words(verdict)),
    element("td", {}, text("terms", row)),
    element("td", { className: "free" }, element("bdi", {}, text("caption", row))),
    source,
    licence,
    ...CLIPS.numbers.map((column) => score(column, row)),
  );
}

function score(column, row) {
  const value = column.values[row];
  const outside = value !== null && ((column.low ?? -Infinity) > value || (column.high ?? Infinity) < value);
  const shown = value === null ? "–" : String(Number(value.toPrecision(4)));
  return element("td", { className: outside ? "n outside" : "n" }, shown);
}

function preview(row) {
  if (!(row in CLIPS.previews)) {
    return element("div", { className: "blank" }, CLIPS.stored[row] ? "no preview" : "no video stored");
  }
  const [src, poster] = CLIPS.previews[row];
  const ariaLabel = `Preview of ${text("name", row)}: press Enter to play`;
  const quiet = { loop: true, muted: true, playsInline: true, preload: "none", tabIndex: 0 };
  return element("video", { className: "preview", src, poster, ariaLabel, ...quiet });
}

// --- controls

// Offer the values of `name` with their numbers of clips; `parts` splits a value into several choices.
function offer(select, name, parts = (value) => [value]) {
  const column = CLIPS.texts[name];
  const counts = new Map();
  const ofValue = new Array(column.values.length).fill(0);
  for (const code of column.codes) ofValue[code]++;
  column.values.forEach((value, code) => {
    for (const part of parts(value)) if (part) counts.set(part, (counts.get(part) ?? 0) + ofValue[code]);
  });
  for (const [value, clips] of [...counts].sort((a, b) => b[1] - a[1])) {
    select.append(element("option", { value }, `${words(value)} (${count(clips)})`));
  }
}

function start() {
  offer(form.elements.verdict, "verdict");
  form.elements.verdict.options[0].after(element("option", { value: "filtered" }, "filtered, for any reason"));
  offer(form.elements.kind, "kind");
  offer(form.elements.term, "terms", (value) => value.split(", "));
  offer(form.elements.licence, "licence");
  let typing = 0;
  form.oninput = ({ target }) => {
    clearTimeout(typing);
    typing = setTimeout(() => change(filters()), target.matches("[type=search], [type=number]") ? 200 : 0);
  };
  form.onsubmit = (event) => event.preventDefault();
  form.onreset = () => change(Object.fromEntries(FILTERS.map((name) => [name, ""])));
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.onclick = () => {
      const { sort: sorted, sign } = read(state());
      const again = button.dataset.sort === sorted;
      change({ sort: button.dataset.sort, order: again && sign > 0 ? "down" : "" });
    };
  }
  document.getElementById("previous").onclick = () => change({ page: Number(pageInput.value) - 1 });
  document.getElementById("next").onclick = () => change({ page: Number(pageInput.value) + 1 });
  pageInput.onchange = () => change({ page: pageInput.value });
  onhashchange = draw;
  draw();
}

if (typeof CLIPS === "undefined") {
  document.getElementById("found").textContent = "The list is missing: the folder media must be next to this page.";
} else {
  start();
}
