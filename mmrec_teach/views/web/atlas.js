// The atlas of a sweep. Everything shown is read from the runs in #atlas-data; no number and no picture is made up in between.
"use strict";
(() => {
  const told = JSON.parse(document.getElementById("atlas-data").textContent);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const SVG = "http://www.w3.org/2000/svg";
  const BLUE = "#0072b2", INK = "#1f2933", QUIET = "#4a5763", FAINT = "#aeb8c2", GREEN = "#00734f";

  // -- small helpers --------------------------------------------------------------------------------------------------------
  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value != null) node.setAttribute(name, value);
    }
    node.append(...children.flat().filter(child => child != null));
    return node;
  }
  const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const shape = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  const same = (a, b) => a.length === b.length && a.every((value, n) => value === b[n]);
  const percent = share => `${Math.round(100 * share)} %`;
  const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
  const digits = (value, measure) => value == null ? "none" : value.toFixed(measure.digits);

  function decode(text, kind) {
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    return new kind(bytes.buffer);  // little-endian, as every machine with a browser is
  }
  function mean(values) { return values.reduce((a, b) => a + b, 0) / values.length; }
  function spread(values) {
    if (values.length < 2) return null;
    const middle = mean(values);
    return Math.sqrt(values.reduce((sum, v) => sum + (v - middle) ** 2, 0) / (values.length - 1));
  }

  // -- what was trained -------------------------------------------------------------------------------------------------------
  const runAt = (at, seed) => told.runs.find(run => same(run.at, at) && run.seed === seed) ?? null;
  const points = [];
  for (const run of told.runs) if (!points.some(at => same(at, run.at))) points.push(run.at);
  points.sort((a, b) => { const n = a.findIndex((value, k) => value !== b[k]); return n < 0 ? 0 : a[n] - b[n]; });

  function overSeeds(at, number) {
    const values = told.runs.filter(run => same(run.at, at)).map(run => run.values[number]).filter(value => value != null);
    return values.length ? { mean: mean(values), spread: spread(values), n: values.length } : null;
  }
  function withSpread(value, measure) {
    if (!value) return "none";
    return digits(value.mean, measure) + (value.spread == null ? "" : ` ±${digits(value.spread, measure)}`);
  }
  const inWords = at => told.controls.map((control, n) => `${control.name} = ${control.labels[at[n]]}`).join(", ");
  const nameOf = side => side === "item" || side === "user" ? side : "row";
  const viewOf = name => told.views.find(view => view.name === name);

  const unpacked = new Map();
  function coordinates(run, view) {
    const key = `${run.at}/${run.seed}/${view.name}`;
    if (!unpacked.has(key)) unpacked.set(key, decode(run.pictures[view.name].xy, Int16Array));
    return unpacked.get(key);
  }
  const boundsOfView = new Map();
  function bounds(view) {  // one frame for all pictures of a view: what moves on the screen has moved
    if (!boundsOfView.has(view.name)) {
      let [x0, x1, y0, y1] = [1e9, -1e9, 1e9, -1e9];
      for (const run of told.runs) {
        const xy = coordinates(run, view);
        for (let n = 0; n < xy.length; n += 2) {
          x0 = Math.min(x0, xy[n]); x1 = Math.max(x1, xy[n]); y0 = Math.min(y0, xy[n + 1]); y1 = Math.max(y1, xy[n + 1]);
        }
      }
      boundsOfView.set(view.name, [x0, x1, y0, y1]);
    }
    return boundsOfView.get(view.name);
  }

  // -- state, kept in the address so that a picture can be shared -------------------------------------------------------------
  const key = name => told.measures.findIndex(measure => measure.key === name);
  const first = (...names) => Math.max(names.map(key).find(n => n >= 0) ?? 0, 0);
  const state = {
    at: [...told.start.at], seed: told.start.seed, view: told.views[0].name, colour: {}, only: new Set(), picked: null, moves: false, zoom: false,
    x: first("gauges/alignment", `test/coverage@${told.metric.split("@")[1]}`), y: 0,
  };
  for (const [side, about] of Object.entries(told.sides)) state.colour[side] = about.colourings[0].name;

  function readAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    told.controls.forEach((control, n) => {
      const place = control.labels.indexOf(given.get(control.name));
      if (place >= 0) state.at[n] = place;
    });
    if (told.seeds.includes(Number(given.get("seed"))) && given.has("seed")) state.seed = Number(given.get("seed"));
    if (viewOf(given.get("view"))) state.view = given.get("view");
  }
  function writeAddress() {
    const words = new URLSearchParams(told.controls.map((control, n) => [control.name, control.labels[state.at[n]]]));
    words.set("seed", state.seed);
    words.set("view", state.view);
    history.replaceState(null, "", `#${words}`);
  }

  // -- marks: the same shapes on the canvas and in the key ---------------------------------------------------------------------
  const star = [...Array(10).keys()].map(n => {
    const [far, turn] = [n % 2 ? 0.5 : 1.25, Math.PI * (n / 5 - 0.5)];
    return [far * Math.cos(turn), far * Math.sin(turn)];
  });
  const CROSS = [[-1, -.35], [-.35, -.35], [-.35, -1], [.35, -1], [.35, -.35], [1, -.35], [1, .35], [.35, .35], [.35, 1], [-.35, 1], [-.35, .35], [-1, .35]];
  const SHAPES = {
    square: [[-.85, -.85], [.85, -.85], [.85, .85], [-.85, .85]], diamond: [[0, -1.2], [1.05, 0], [0, 1.2], [-1.05, 0]],
    "triangle-up": [[0, -1.15], [1.1, .85], [-1.1, .85]], "triangle-down": [[0, 1.15], [1.1, -.85], [-1.1, -.85]],
    cross: CROSS.map(([x, y]) => [1.1 * x, 1.1 * y]), x: CROSS.map(([x, y]) => [.78 * (x - y), .78 * (x + y)]), star,
  };
  function trace(pen, mark, x, y, r) {
    pen.beginPath();
    const corners = SHAPES[mark];
    if (!corners) { pen.arc(x, y, r, 0, 2 * Math.PI); return; }
    corners.forEach(([a, b], n) => n ? pen.lineTo(x + r * a, y + r * b) : pen.moveTo(x + r * a, y + r * b));
    pen.closePath();
  }
  function keyMark(colour, mark) {
    const corners = SHAPES[mark];
    const drawn = corners ? shape("path", { d: "M" + corners.map(([x, y]) => `${7 + 5 * x} ${7 + 5 * y}`).join("L") + "Z" })
      : shape("circle", { cx: 7, cy: 7, r: 5 });
    return shape("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, fill(drawn, { fill: colour, stroke: "rgba(31,41,51,.5)", "stroke-width": .7 }, []));
  }
  function onScale(share) {
    const stops = told.scale;
    let n = 1;
    while (n < stops.length - 1 && share > stops[n][0]) n += 1;
    const [[from, a], [to, b]] = [stops[n - 1], stops[n]];
    const part = Math.min(Math.max((share - from) / (to - from), 0), 1);
    const mixed = [1, 3, 5].map(k => Math.round(parseInt(a.slice(k, k + 2), 16) * (1 - part) + parseInt(b.slice(k, k + 2), 16) * part));
    return `rgb(${mixed})`;
  }

  // -- the page's parts ---------------------------------------------------------------------------------------------------------
  const main = document.getElementById("atlas");
  const canvas = el("canvas", { tabindex: 0, role: "application", "aria-roledescription": "map", "aria-describedby": "map-keys" });
  const pen = canvas.getContext("2d");
  const card = el("div", { class: "card", hidden: true });
  const none = el("div", { class: "none", hidden: true });
  const stage = el("div", { class: "stage" }, canvas, none, card);
  const heading = el("h2", { id: "map-name" }), kept = el("p", { class: "kept" }), legend = el("div", {});
  const says = el("p", { class: "says", role: "status" });
  const numbers = el("table", { "aria-label": "Numbers of this run and of its seeds" });
  const front = el("div", {}), curves = el("div", {}), frontSays = el("p", { class: "quiet small" });
  const pickedSays = el("p", { class: "hidden", role: "status" });

  function slider(control, n) {
    const last = control.labels.length - 1;
    if (!last) return el("div", { class: "field" }, el("div", { class: "head" }, el("span", { class: "name" }, control.name), el("output", {}, control.labels[0])));
    const id = `control-${n}`;
    const few = control.labels.length <= 7;
    const ticks = control.labels.map((text, k) => few || k === 0 || k === last
      ? fill(el("span", {}, text), { style: `left:${100 * k / last}%` }, []) : null);
    const input = el("input", { type: "range", id, min: 0, max: last, step: 1, value: state.at[n],
      oninput: () => { state.at[n] = Number(input.value); update(); } });
    return el("div", { class: "field", "data-control": n },
      el("div", { class: "head" }, el("label", { class: "name", for: id }, control.kind === "weight" ? `weight of ${control.name}` : control.name), el("output", { for: id })),
      input, el("div", { class: "ticks", "aria-hidden": "true" }, ticks));
  }
  function choice(label, options, chosen, change, id) {
    const list = el("select", { id, onchange: () => change(list.value) }, options.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
    return el("div", { class: "field" }, el("label", { class: "name", for: id }, label), list);
  }

  const colourField = el("div", {}), findField = el("div", {});
  function build() {
    const seeds = told.seeds.map(seed => el("label", {}, el("input", { type: "radio", name: "seed", value: seed, checked: seed === state.seed,
      onchange: () => { state.seed = seed; update(); } }), String(seed)));
    const moves = el("input", { type: "checkbox", onchange: () => { state.moves = moves.checked; paint(); } });
    const zoom = el("input", { type: "checkbox", onchange: () => { state.zoom = zoom.checked; drawFront(); } });
    const zoomed = el("label", { class: "tick" }, zoom, "zoom in on the front");
    const fixed = Object.entries(told.given).map(([name, value]) => `${name} = ${value}`);
    main.append(
      el("form", { class: "box set", "aria-label": "Setting", onsubmit: event => event.preventDefault() },
        el("h2", {}, "Setting"),
        told.controls.map(slider),
        el("fieldset", { class: "field" }, el("legend", {}, told.seeds.length > 1 ? "seed" : "seed (one was trained)"), el("div", { class: "seeds" }, seeds)),
        choice("map", told.views.map(view => [view.name, view.name]), state.view, value => { state.view = value; state.picked = null; state.only.clear(); update(true); }, "choose-view"),
        colourField, findField,
        el("label", { class: "tick" }, moves, el("span", {}, "trace how far points moved from the last stop")),
        fixed.length ? el("p", { class: "fixed" }, `The same in all runs: ${fixed.join(", ")}.`) : null),
      el("section", { class: "box map", "aria-labelledby": "map-name" },
        el("header", {}, heading, kept), stage, legend, says, pickedSays,
        el("p", { id: "map-keys", class: "hidden" }, "Arrow keys go from point to point, Escape lets go.")),
      el("section", { class: "box now", "aria-labelledby": "now-name" }, el("h2", { id: "now-name" }, "Measured in the full space"), numbers,
        el("p", { class: "quiet small", style: "margin-top:9px" }, "Each tick is a trained run of the sweep; the tall one is this run. A map shows a part of this only.")),
      el("div", { class: "front" },
        el("section", { class: "box", "aria-labelledby": "front-name" }, el("h2", { id: "front-name" }, "Trade-offs: mean over seeds, bars of one standard deviation"),
          el("div", { class: "axes" }, axis("across", "x"), axis("up", "y"), zoomed), front, frontSays),
        el("section", { class: "box", "aria-labelledby": "curve-name" }, el("h2", { id: "curve-name" }, `Learning curves: ${told.metric} on valid`), curves)));
    for (const row of document.querySelectorAll(".all tbody tr")) {
      const at = row.dataset.at.split(",").map(Number), cell = row.querySelector("th");
      const text = cell.textContent;
      cell.replaceChildren(el("button", { type: "button", "aria-label": `Show ${inWords(at)}`, onclick: () => go(at) }, text));
    }
  }
  function axis(label, which) {
    const list = el("select", { id: `axis-${which}`, onchange: () => { state[which] = Number(list.value); drawFront(); } },
      told.measures.map((measure, n) => el("option", { value: n, selected: n === state[which] }, measure.label)));
    return el("label", {}, label, list);
  }
  function go(at) {
    state.at = [...at];
    if (!runAt(at, state.seed)) state.seed = told.runs.find(run => same(run.at, at)).seed;
    update();
  }

  // -- the map --------------------------------------------------------------------------------------------------------------------
  let shown = null, from = null, to = null, started = 0, frame = 0, before = null, place = null;
  const colouring = () => {
    const side = viewOf(state.view).side;
    return told.sides[side].colourings.find(c => c.name === state.colour[side]);
  };
  function frameOf(width, height, view) {
    const [x0, x1, y0, y1] = bounds(view), margin = 22;
    const zoom = Math.min((width - 2 * margin) / Math.max(x1 - x0, 1), (height - 2 * margin) / Math.max(y1 - y0, 1));
    return n => [width / 2 + (shown[2 * n] - (x0 + x1) / 2) * zoom, height / 2 - (shown[2 * n + 1] - (y0 + y1) / 2) * zoom, zoom];
  }
  function resize() {
    const width = stage.clientWidth, [x0, x1, y0, y1] = bounds(viewOf(state.view));
    const wish = width * Math.max(y1 - y0, 1) / Math.max(x1 - x0, 1);
    const height = Math.round(Math.min(Math.max(wish, .62 * width, 300), .92 * width, 640));
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint();
  }
  function paint() {
    const width = canvas.clientWidth, height = canvas.clientHeight;
    pen.clearRect(0, 0, width, height);
    if (!shown || !width) { place = null; return; }
    const view = viewOf(state.view), how = colouring(), n = shown.length / 2;
    place = frameOf(width, height, view);
    const radius = Math.min(Math.max(8.4 - 1.45 * Math.log10(n), 2.6), 6) * (width < 460 ? .78 : 1);
    if (state.moves && before && before.length === shown.length) {
      const old = n => { const keep = shown; shown = before; const where = place(n); shown = keep; return where; };
      pen.strokeStyle = "rgba(31,41,51,.28)"; pen.lineWidth = 1;
      pen.beginPath();
      for (let k = 0; k < n; k += 1) { const [a, b] = old(k), [x, y] = place(k); pen.moveTo(a, b); pen.lineTo(x, y); }
      pen.stroke();
    }
    const top = how.kind === "popularity" ? Math.log10(1 + Math.max(...how.values, 1)) : 1;
    const order = [...Array(n).keys()];
    if (how.kind === "popularity") order.sort((a, b) => how.values[a] - how.values[b]);
    pen.lineWidth = .6;
    for (const dim of state.only.size ? [true, false] : [false]) {
      for (const k of order) {
        const group = how.values[k];
        if (state.only.size && state.only.has(group) === dim) continue;
        const [x, y] = place(k);
        const [colour, mark] = how.kind === "popularity" ? [onScale(Math.log10(1 + group) / top), "circle"] : how.styles[group];
        pen.globalAlpha = dim ? .13 : .88;
        trace(pen, mark, x, y, radius);
        pen.fillStyle = colour; pen.fill();
        pen.strokeStyle = "rgba(31,41,51,.55)"; pen.stroke();
      }
    }
    pen.globalAlpha = 1;
    if (state.picked != null) {
      const [x, y] = place(state.picked);
      pen.strokeStyle = INK; pen.lineWidth = 1.6;
      for (const k of linked(state.picked)) {
        const [a, b] = place(k);
        pen.beginPath(); pen.moveTo(x, y); pen.lineTo(a, b); pen.stroke();
        pen.beginPath(); pen.arc(a, b, radius + 3, 0, 7); pen.stroke();
      }
      pen.lineWidth = 3;
      pen.beginPath(); pen.arc(x, y, radius + 5, 0, 7); pen.stroke();
    }
    placeCard();
  }
  function linked(row) {
    const run = runAt(state.at, state.seed), picture = run?.pictures[state.view];
    if (!picture?.near) return [];
    const wide = picture.xy.length / 4 * 3 / 4 >= 65536 ? Uint32Array : Uint16Array;
    const near = decode(picture.near, wide);
    return [...near.subarray(row * told.links, (row + 1) * told.links)];
  }
  function animate(target) {
    cancelAnimationFrame(frame);
    const jump = still.matches || !shown || shown.length !== target.length || document.hidden;
    before = shown && shown.length === target.length ? Float32Array.from(to ?? shown) : null;
    to = Float32Array.from(target);
    if (jump) { shown = to; paint(); return; }
    from = Float32Array.from(shown); started = performance.now();
    const step = now => {
      const part = Math.min((now - started) / 420, 1), eased = part < .5 ? 2 * part * part : 1 - (2 - 2 * part) ** 2 / 2;
      shown = part < 1 ? from.map((value, n) => value + (to[n] - value) * eased) : to;
      paint();
      if (part < 1) frame = requestAnimationFrame(step);
    };
    frame = requestAnimationFrame(step);
  }

  // -- one point --------------------------------------------------------------------------------------------------------------------
  let hovered = null;
  function describe(row) {
    const view = viewOf(state.view), about = told.sides[view.side], how = colouring();
    const lines = [];
    for (const c of about.colourings) {
      if (c.name === "cold") { if (c.groups[c.values[row]] === "cold") lines.push("cold: never seen in training"); }
      else if (c.kind === "category" && c.name !== "plain") lines.push(`${c.name.split(" (")[0]}: ${c.groups[c.values[row]]}`);
    }
    if (about.counts) lines.push(count(about.counts[row], "training interaction"));
    return { title: about.titles[row], lines, how };
  }
  function placeCard() {
    const row = hovered ?? state.picked;
    card.hidden = row == null || !place;
    if (card.hidden) return;
    const about = describe(row), sheet = told.sides[viewOf(state.view).side].sheet;
    const parts = [];
    if (sheet && !sheet.missing.includes(row)) {
      const size = 84, image = el("i", {});
      image.style.backgroundImage = `url(${sheet.src})`;
      image.style.backgroundSize = `${sheet.columns * size}px`;
      image.style.backgroundPosition = `-${row % sheet.columns * size}px -${Math.floor(row / sheet.columns) * size}px`;
      parts.push(image);
    }
    if (card.dataset.row !== `${state.view}/${row}`) {
      card.replaceChildren(...parts, el("div", {}, el("b", {}, about.title), about.lines.map(line => el("span", {}, line)),
        sheet?.missing.includes(row) ? el("span", {}, "picture missing") : null));
      card.dataset.row = `${state.view}/${row}`;
    }
    const [x, y] = place(row), width = canvas.clientWidth;
    card.style.left = `${Math.max(Math.min(x > width / 2 ? x - card.offsetWidth - 14 : x + 14, width - card.offsetWidth - 4), 4)}px`;
    card.style.top = `${Math.max(Math.min(y - card.offsetHeight / 2, canvas.clientHeight - card.offsetHeight - 4), 4)}px`;
  }
  function nearestTo(x, y, within) {
    if (!place) return null;
    let [best, found] = [within * within, null];
    for (let k = 0; k < shown.length / 2; k += 1) {
      const [a, b] = place(k), far = (a - x) ** 2 + (b - y) ** 2;
      if (far < best) [best, found] = [far, k];
    }
    return found;
  }
  function pick(row) {
    state.picked = row; hovered = null;
    if (row != null) {
      const about = describe(row), near = linked(row).map(k => describe(k).title);
      pickedSays.textContent = `${about.title}; ${about.lines.join("; ")}.` + (near.length ? ` Nearest in the full space: ${near.join(", ")}.` : "");
    } else pickedSays.textContent = "";
    paint();
  }
  function towards(dx, dy) {  // the nearest point that lies that way
    if (!place) return;
    if (state.picked == null) { pick(nearestTo(canvas.clientWidth / 2, canvas.clientHeight / 2, 1e9)); return; }
    const [x, y] = place(state.picked);
    let [best, found] = [Infinity, null];
    for (let k = 0; k < shown.length / 2; k += 1) {
      const [a, b] = place(k), along = (a - x) * dx + (b - y) * dy, aside = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      if (k !== state.picked && along > .5 && along + 2.5 * aside < best) [best, found] = [along + 2.5 * aside, k];
    }
    if (found != null) pick(found);
  }
  const locate = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointermove", event => {
    const row = nearestTo(...locate(event), 16);
    if (row !== hovered) { hovered = row; placeCard(); }
  });
  canvas.addEventListener("pointerleave", () => { hovered = null; placeCard(); });
  canvas.addEventListener("click", event => { const row = nearestTo(...locate(event), 18); pick(row === state.picked ? null : row); });
  canvas.addEventListener("keydown", event => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) { towards(...way); event.preventDefault(); }
    if (event.key === "Escape") pick(null);
  });

  // -- key, choices that depend on the view ----------------------------------------------------------------------------------------
  function drawChoices() {
    const view = viewOf(state.view), about = told.sides[view.side];
    colourField.replaceChildren(choice("colour by", about.colourings.map(c => [c.name, c.name]), state.colour[view.side],
      value => { state.colour[view.side] = value; state.only.clear(); drawKey(); paint(); drawWords(); }, "choose-colour"));
    const input = el("input", { id: "find", list: "names", autocomplete: "off", placeholder: "type a name", onchange: () => {
      const wish = input.value.trim().toLowerCase();
      const exact = about.titles.findIndex(title => title.toLowerCase() === wish);
      const row = exact >= 0 ? exact : about.titles.findIndex(title => title.toLowerCase().includes(wish));
      pick(wish && shown && row >= 0 && row < shown.length / 2 ? row : null);
      missed.textContent = wish && row < 0 ? `No ${nameOf(view.side)} is called that.` : "";
    } });
    const missed = el("p", { class: "quiet small", role: "status" });
    findField.replaceChildren(el("div", { class: "field" }, el("label", { class: "name", for: "find" }, `find one of the ${nameOf(view.side)}s`), input, missed,
      el("datalist", { id: "names" }, [...new Set(about.titles)].map(value => el("option", { value })))));
  }
  function drawKey() {
    const how = colouring();
    if (how.kind === "popularity") {
      const stops = told.scale.map(([share, colour]) => `${colour} ${100 * share}%`).join(",");
      const bar = el("i", { "aria-hidden": "true" });
      bar.style.background = `linear-gradient(90deg, ${stops})`;
      legend.replaceChildren(el("p", { class: "scale", style: "margin-top:10px" }, "0", bar, `${Math.max(...how.values).toLocaleString("en")} training interactions (log scale)`));
      return;
    }
    const sizes = how.groups.map((_, n) => how.values.filter(value => value === n).length);
    legend.replaceChildren(el("ul", { class: "key", "aria-label": `Key: ${how.name}; press to single out` }, how.groups.map((name, n) => {
      const button = el("button", { type: "button", "aria-pressed": String(state.only.has(n)), onclick: () => {
        if (!state.only.delete(n)) state.only.add(n);
        button.setAttribute("aria-pressed", String(state.only.has(n)));
        paint();
      } }, keyMark(...how.styles[n]), how.name === "plain" ? "" : name, el("span", { class: "quiet" }, sizes[n].toLocaleString("en")));
      return el("li", {}, button);
    })));
  }

  // -- numbers ------------------------------------------------------------------------------------------------------------------------
  function drawNumbers(run) {
    const many = told.seeds.length > 1;
    const rows = told.measures.map((measure, n) => {
      const all = told.runs.map(r => r.values[n]).filter(value => value != null);
      const [low, high] = [Math.min(...all), Math.max(...all)], width = 74;
      const across = value => 3 + (width - 6) * (high > low ? (value - low) / (high - low) : .5);
      const value = run?.values[n] ?? null, group = overSeeds(state.at, n);
      const strip = shape("svg", { viewBox: `0 0 ${width} 22`, "aria-hidden": "true" },
        shape("line", { x1: 0, x2: width, y1: 11, y2: 11, stroke: "#dce2e8" }),
        all.map(v => shape("line", { x1: across(v), x2: across(v), y1: 7, y2: 15, stroke: "#8694a1", "stroke-width": 1.2, opacity: .75 })),
        value == null ? null : shape("line", { x1: across(value), x2: across(value), y1: 1, y2: 21, stroke: BLUE, "stroke-width": 3.4, "stroke-linecap": "round" }));
      return el("tr", { "data-key": measure.key },
        el("th", { scope: "row", title: measure.help }, measure.label, el("span", { class: "hidden" }, `. ${measure.help}`)),
        el("td", {}, el("b", {}, digits(value, measure))),
        many ? el("td", { class: "spread" }, withSpread(group, measure)) : null,
        el("td", { class: "strip" }, strip));
    });
    numbers.replaceChildren(
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "measure"), el("th", { scope: "col" }, `seed ${state.seed}`),
        many ? el("th", { scope: "col" }, "mean ±sd") : null, el("td", { class: "strip" }))),
      el("tbody", {}, rows));
  }

  // -- words --------------------------------------------------------------------------------------------------------------------------
  function drawWords() {
    const run = runAt(state.at, state.seed), view = viewOf(state.view);
    const setting = `${inWords(state.at)}, seed ${state.seed}`;
    heading.textContent = `${state.view}: ${inWords(state.at)}`;
    none.hidden = run != null;
    if (!run) {
      none.textContent = `${setting} was not trained. There is no picture of it; the sweep's own command trains it.`;
      kept.textContent = "";
      says.textContent = `${setting} was not trained, so nothing is shown.`;
      canvas.setAttribute("aria-label", says.textContent);
      return;
    }
    const picture = run.pictures[state.view], n = coordinates(run, view).length / 2, main = told.measures[0];
    const group = overSeeds(state.at, 0);
    const ranked = points.map(at => overSeeds(at, 0)?.mean ?? -Infinity).sort((a, b) => b - a);
    const rank = ranked.indexOf(group.mean) + 1;
    kept.replaceChildren(el("b", {}, percent(picture.kept)), ` of each point's 10 nearest neighbours kept (${picture.method})`);
    const kind = nameOf(view.side);
    const which = n === picture.of ? `all ${count(n, kind)}` : `${n.toLocaleString("en")} of ${count(picture.of, kind)}`;
    let text = `${told.model} on ${told.data.name} with ${setting}: ${main.label} is ${digits(run.values[0], main)}`;
    if (group.n > 1) text += ` (${group.n} seeds: ${withSpread(group, main)})`;
    text += points.length > 1 ? `, number ${rank} of ${points.length} settings. ` : ". ";
    const map = `The ${picture.method} map of ${state.view} shows ${which}, coloured by ${state.colour[view.side]}, and keeps ${percent(picture.kept)} of the nearest neighbours`;
    text += map + (picture.rank == null ? "." : `; effective rank ${picture.rank.toFixed(1)} of ${picture.dim}.`);
    says.textContent = text;
    canvas.setAttribute("aria-label", `${map}.`);
  }

  // -- charts -------------------------------------------------------------------------------------------------------------------------
  function ticksOf(low, high, wish = 5) {
    if (!(high > low)) { low -= Math.abs(low) * .05 || .5; high += Math.abs(high) * .05 || .5; }
    const raw = (high - low) / wish, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= raw);
    const found = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(Number(v.toPrecision(12)));
    return found;
  }
  const tickText = value => String(Number(value.toPrecision(4)));
  function plane(width, height, xs, ys, xTitle, yTitle, label) {
    const pad = { left: 58, right: 16, top: 12, bottom: 46 };
    const widen = ([low, high], share) => { const more = (high - low || Math.abs(high) || 1) * share; return [low - more, high + more]; };
    const [x0, x1] = widen(xs, .06), [y0, y1] = widen(ys, .08);
    const sx = v => pad.left + (v - x0) / (x1 - x0) * (width - pad.left - pad.right);
    const sy = v => height - pad.bottom - (v - y0) / (y1 - y0) * (height - pad.top - pad.bottom);
    const svg = shape("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });
    for (const v of ticksOf(x0, x1)) svg.append(shape("line", { class: "grid", x1: sx(v), x2: sx(v), y1: pad.top, y2: height - pad.bottom }),
      shape("text", { x: sx(v), y: height - pad.bottom + 17, "text-anchor": "middle" }, tickText(v)));
    for (const v of ticksOf(y0, y1)) svg.append(shape("line", { class: "grid", x1: pad.left, x2: width - pad.right, y1: sy(v), y2: sy(v) }),
      shape("text", { x: pad.left - 8, y: sy(v) + 4, "text-anchor": "end" }, tickText(v)));
    svg.append(shape("text", { class: "title", x: (pad.left + width - pad.right) / 2, y: height - 8, "text-anchor": "middle" }, xTitle),
      shape("text", { class: "title", transform: `translate(14 ${(pad.top + height - pad.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, yTitle));
    return { svg, sx, sy, right: width - pad.right, top: pad.top, bottom: height - pad.bottom, left: pad.left };
  }
  const chartWidth = box => Math.max(Math.round(box.clientWidth || 600), 280);
  const wayOf = measure => measure.better === "high" ? " (higher is better)" : measure.better === "low" ? " (lower is better)" : "";

  function drawFront(focus = false) {
    const [mx, my] = [told.measures[state.x], told.measures[state.y]];
    const dots = points.map(at => ({ at, x: overSeeds(at, state.x), y: overSeeds(at, state.y) })).filter(dot => dot.x && dot.y);
    if (!dots.length) { front.replaceChildren(); frontSays.textContent = "No run has both."; return; }
    const gain = (measure, value) => measure.better === "low" ? -value : value;
    const judged = mx.better && my.better && state.x !== state.y;
    for (const dot of dots) {
      dot.front = judged && !dots.some(other => other !== dot && gain(mx, other.x.mean) >= gain(mx, dot.x.mean) && gain(my, other.y.mean) >= gain(my, dot.y.mean)
        && (other.x.mean !== dot.x.mean || other.y.mean !== dot.y.mean));
    }
    const near = state.zoom && dots.some(dot => dot.front) ? dots.filter(dot => dot.front) : dots;
    const range = name => {
      const all = near.flatMap(dot => [dot[name].mean - (dot[name].spread ?? 0), dot[name].mean + (dot[name].spread ?? 0)]);
      return [Math.min(...all), Math.max(...all)];
    };
    const inside = ({ x, y }) => near === dots || (x.mean >= range("x")[0] && x.mean <= range("x")[1] && y.mean >= range("y")[0] && y.mean <= range("y")[1]);
    const width = chartWidth(front), height = Math.round(Math.min(Math.max(width * .52, 270), 400));
    const label = `${my.label} against ${mx.label}, ${count(dots.length, "setting")}; arrow keys go from one to the next, Enter shows it`;
    const { svg, sx, sy } = plane(width, height, range("x"), range("y"), mx.label + wayOf(mx), my.label + wayOf(my), label);
    const best = dots.filter(dot => dot.front).sort((a, b) => a.x.mean - b.x.mean);
    if (best.length > 1) {
      let path = "";
      best.forEach((dot, n) => {  // a staircase: between two settings of the front nothing was trained
        if (n) {
          const last = best[n - 1], [a, b] = mx.better === "high" ? [last, dot] : [dot, last];
          path += `L${sx(a.x.mean)} ${sy(b.y.mean)}`;
        }
        path += `${n ? "L" : "M"}${sx(dot.x.mean)} ${sy(dot.y.mean)}`;
      });
      svg.append(shape("path", { d: path, fill: "none", stroke: GREEN, "stroke-width": 1.8, "stroke-dasharray": "6 4" }));
    }
    const here = dots.findIndex(dot => same(dot.at, state.at));
    const inOrder = dots.filter(inside).sort((a, b) => a.x.mean - b.x.mean);
    const drawnText = [];
    for (const dot of inOrder) {
      const [x, y] = [sx(dot.x.mean), sy(dot.y.mean)], current = same(dot.at, state.at);
      const line = (a, b, c, d) => shape("line", { x1: a, y1: b, x2: c, y2: d, stroke: current ? BLUE : "#8694a1", "stroke-width": 1.5 });
      const mark = dot.front ? shape("path", { d: `M${x} ${y - 8}L${x + 7.4} ${y}L${x} ${y + 8}L${x - 7.4} ${y}Z`, fill: current ? BLUE : GREEN, stroke: "#fff", "stroke-width": 1.4 })
        : shape("circle", { cx: x, cy: y, r: 6, fill: current ? BLUE : "#fff", stroke: current ? "#fff" : QUIET, "stroke-width": current ? 1.4 : 1.8 });
      const name = `${inWords(dot.at)}: ${mx.label} ${withSpread(dot.x, mx)}, ${my.label} ${withSpread(dot.y, my)}${dot.front ? ", on the front" : ""}${current ? ", shown" : ""}`;
      const mine = shape("g", { role: "button", tabindex: dot === (inOrder.includes(dots[here]) ? dots[here] : inOrder[0]) ? 0 : -1, "aria-label": name, onclick: () => go(dot.at) },
        shape("title", {}, name),
        dot.x.spread ? line(sx(dot.x.mean - dot.x.spread), y, sx(dot.x.mean + dot.x.spread), y) : null,
        dot.y.spread ? line(x, sy(dot.y.mean - dot.y.spread), x, sy(dot.y.mean + dot.y.spread)) : null,
        shape("circle", { class: "ring", cx: x, cy: y, r: 13 }), mark, shape("circle", { cx: x, cy: y, r: 14, fill: "transparent" }));
      mine.addEventListener("keydown", event => {
        const all = [...svg.querySelectorAll("[role=button]")], n = all.indexOf(mine);
        const next = { ArrowRight: n + 1, ArrowDown: n + 1, ArrowLeft: n - 1, ArrowUp: n - 1, Home: 0, End: all.length - 1 }[event.key];
        if (next != null) { all[Math.min(Math.max(next, 0), all.length - 1)].focus(); event.preventDefault(); }
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); go(dot.at); front.querySelector("[tabindex='0']")?.focus(); }
      });
      svg.append(mine);
    }
    const labels = [...inOrder].sort((a, b) => same(b.at, state.at) - same(a.at, state.at));  // the shown one first: it is never left out
    for (const dot of labels) {
      const current = same(dot.at, state.at), [x, y] = [sx(dot.x.mean), sy(dot.y.mean)];
      const text = told.controls.map((control, n) => control.labels.length > 1 ? control.labels[dot.at[n]] : null).filter(part => part != null).join(", ");
      const long = 7.2 * text.length, left = x + 12 + long > width - 8, spot = [left ? x - 12 - long : x + 12, y - 10];
      const hits = ([a, b, c]) => a < spot[0] + long + 4 && spot[0] < a + c + 4 && Math.abs(b - spot[1]) < 15;
      const onMark = inOrder.some(other => other !== dot && sx(other.x.mean) > spot[0] - 8 && sx(other.x.mean) < spot[0] + long + 8 && Math.abs(sy(other.y.mean) - spot[1] + 4) < 12);
      if (!current && (drawnText.some(hits) || onMark)) continue;
      drawnText.push([...spot, long]);
      svg.append(shape("text", { x: left ? x - 12 : x + 12, y: spot[1], "text-anchor": left ? "end" : "start", "aria-hidden": "true",
        style: `fill:${current ? BLUE : INK};font-weight:${current ? 700 : 400};paint-order:stroke;stroke:#fff;stroke-width:3px` }, text));
    }
    front.replaceChildren(svg);
    const varied = told.controls.filter(control => control.labels.length > 1).map(control => control.name).join(", ");
    frontSays.textContent = judged
      ? `Diamonds are on the Pareto front: no other trained setting is at least as good in both. ${best.length} of ${dots.length}: ${best.map(dot => inWords(dot.at)).join("; ")}. Where bars overlap, other seeds could tell otherwise.`
      : `No front is drawn: ${[mx, my].filter(m => !m.better).map(m => m.label).join(" and ") || "the two axes are the same; choose two"}${mx.better && my.better ? "" : " has no better direction by itself"}. Points are labelled by ${varied}.`;
    if (inOrder.length < dots.length) frontSays.textContent += ` Outside this part: ${count(dots.length - inOrder.length, "setting")}.`;
    if (focus) front.querySelector("[tabindex='0']")?.focus();
  }

  function drawCurves() {
    const runs = told.runs.filter(run => same(run.at, state.at) && run.curve.length);
    if (!runs.length) { curves.replaceChildren(el("p", { class: "quiet" }, "Nothing was trained here.")); return; }
    const everything = told.runs.filter(run => run.curve.length).flatMap(run => run.curve);
    const range = k => [Math.min(...everything.map(p => p[k])), Math.max(...everything.map(p => p[k]))];
    const width = chartWidth(curves), height = Math.round(Math.min(Math.max(width * .7, 260), 400));
    const words = runs.map(run => `seed ${run.seed}: best in epoch ${run.best_epoch} of ${run.epochs}`).join("; ");
    const { svg, sx, sy, top, right } = plane(width, height, [0, range(0)[1]], [Math.min(0, range(1)[0]), range(1)[1]], "epoch", `${told.metric}, valid`, `Learning curves: ${words}`);
    svg.setAttribute("role", "img");
    const line = (run, attributes) => shape("path", { d: "M" + run.curve.map(([e, v]) => `${sx(e).toFixed(1)} ${sy(v).toFixed(1)}`).join("L"), fill: "none", "stroke-linejoin": "round", ...attributes });
    for (const run of told.runs) if (run.seed === state.seed && !same(run.at, state.at) && run.curve.length) svg.append(line(run, { stroke: "#d4dbe1", "stroke-width": 1.3 }));
    runs.sort((a, b) => (a.seed === state.seed) - (b.seed === state.seed));
    for (const run of runs) {
      const mine = run.seed === state.seed;
      svg.append(line(run, { stroke: mine ? BLUE : "#74838f", "stroke-width": mine ? 2.6 : 1.5, "stroke-dasharray": mine ? "none" : ["7 4", "2 3", "9 3 2 3"][told.seeds.indexOf(run.seed) % 3] }));
      const peak = run.curve.find(([e]) => e === run.best_epoch);
      if (peak) svg.append(shape("path", { d: "M" + star.map(([x, y]) => `${sx(peak[0]) + 7 * x} ${sy(peak[1]) + 7 * y}`).join("L") + "Z", fill: mine ? "#e69f00" : "#fff", stroke: INK, "stroke-width": 1 }));
    }
    curves.replaceChildren(svg, el("p", { class: "quiet small" }, `Thick: seed ${state.seed}${runs.length > 1 ? "; broken: the other seeds" : ""}${points.length > 1 ? "; pale: the other settings" : ""}. Stars: the epoch that was kept (${words}).`));
  }

  // -- all of it ----------------------------------------------------------------------------------------------------------------------
  function update(newView = false) {
    const run = runAt(state.at, state.seed);
    told.controls.forEach((control, n) => {
      const field = main.querySelector(`[data-control="${n}"]`);
      if (!field) return;
      const input = field.querySelector("input"), label = control.labels[state.at[n]];
      input.value = state.at[n];
      input.setAttribute("aria-valuetext", `${label}, ${state.at[n] + 1} of ${control.labels.length}`);
      field.querySelector("output").textContent = label;
      field.querySelectorAll(".ticks span").forEach(tick => tick.classList.toggle("here", tick.textContent === label));
    });
    for (const radio of main.querySelectorAll("[name=seed]")) radio.checked = Number(radio.value) === state.seed;
    for (const row of document.querySelectorAll(".all tbody tr")) row.classList.toggle("here", row.dataset.at === state.at.join(","));
    if (newView) { shown = to = before = null; hovered = null; drawChoices(); drawKey(); }
    drawWords(); drawNumbers(run); drawCurves(); drawFront();
    if (run) {
      if (newView) { shown = to = Float32Array.from(coordinates(run, viewOf(state.view))); resize(); } else animate(coordinates(run, viewOf(state.view)));
    } else { cancelAnimationFrame(frame); shown = to = before = null; paint(); card.hidden = true; }
    writeAddress();
  }
  readAddress();
  build();
  update(true);
  let rested = 0;
  new ResizeObserver(() => { clearTimeout(rested); rested = setTimeout(() => { resize(); drawFront(); drawCurves(); }, 60); }).observe(main);
})();
