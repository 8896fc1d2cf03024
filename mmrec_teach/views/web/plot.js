// A plotly figure that Python feeds: the whole figure once, later only the arrays that changed. Python sends the next change
// when this one is drawn ("drawn"), so a slow page gets fewer pictures, never older ones.
const TYPES = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };
const CONFIG = {
  displaylogo: false,
  responsive: false,
  doubleClickDelay: 300,
  modeBarButtonsToRemove: ["autoScale2d", "toImage", "sendChartToCloud"], // nothing leaves this machine
};

function unpack(value, buffers) {
  if (Array.isArray(value)) return value.map((entry) => unpack(entry, buffers));
  if (value === null || typeof value !== "object") return value;
  if ("_array" in value) {
    const view = buffers[value._array];
    return new TYPES[value.dtype](view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
  }
  return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, unpack(entry, buffers)]));
}

function put(target, path, value) {
  const names = path.split(".");
  const last = names.pop();
  for (const name of names) target = target[name] ??= {};
  target[last] = value;
}

// Plotly is in the Python package and comes once a page, from whichever figure asks first.
function plotly(model) {
  window.mmrecPlotly ??= new Promise((resolve, reject) => {
    const take = async (message, buffers) => {
      if (!message.plotly) return;
      model.off("msg:custom", take);
      const source = new TextDecoder().decode(buffers[0]);
      // plotly's file looks for CommonJS before it looks for the window: give it just that
      const wrapped = ["const module = { exports: {} };\n", source, "\nexport default module.exports;"];
      const address = URL.createObjectURL(new Blob(wrapped, { type: "text/javascript" }));
      try {
        resolve((await import(address)).default);
      } catch (error) {
        window.mmrecPlotly = undefined;
        reject(error);
      } finally {
        URL.revokeObjectURL(address);
      }
    };
    model.on("msg:custom", take);
    model.send({ want: "plotly" });
  });
  return window.mmrecPlotly;
}

const SETTLE = 250; // ms without a change before plotly itself draws again
const STALE = 1500; // ms at most that plotly's own idea of where points are may be old, with the pointer over them …
const UNSEEN = 10000; // … and without

// Who asked for less motion gets a map a second, not a film: Python sends the next one when this one is answered.
const CALM = matchMedia("(prefers-reduced-motion: reduce)"), BREATH = 1000;

// Move the points that stand in the page. Plotly draws 600 points anew in about 100 ms; moving them takes a few. Plotly learns of
// it a moment later, when pictures pause: until then only what the pointer says is old. False where plotly has to draw.
function glide(div, spec, changes) {
  const full = div._fullLayout, layers = [...div.querySelectorAll(".scatterlayer > .trace")];
  if (!full?.xaxis || div._dragging || layers.length !== spec.data.length || spec.data.some((trace) => trace.type !== "scatter")) return false;
  const { xaxis, yaxis } = full;
  for (const index of Object.keys(changes)) {
    const { x, y, mode } = spec.data[index];
    if (mode === "lines") {
      const [line, ...others] = layers[index].querySelectorAll("path.js-line"); // plotly has a path for each piece between gaps
      if (!line) return false;
      let d = "", pen = "M";
      for (let n = 0; n < x.length; n++) {
        if (!Number.isFinite(x[n])) { pen = "M"; continue; }
        d += `${pen}${xaxis.d2p(x[n]).toFixed(1)},${yaxis.d2p(y[n]).toFixed(1)}`;
        pen = "L";
      }
      line.setAttribute("d", d);
      for (const other of others) other.setAttribute("d", "M0,0");
    } else {
      const points = layers[index].querySelectorAll("path.point");
      if (points.length !== x.length) return false;
      for (let n = 0; n < x.length; n++)
        points[n].setAttribute("transform", `translate(${xaxis.d2p(x[n]).toFixed(2)},${yaxis.d2p(y[n]).toFixed(2)})`);
    }
  }
  return true;
}

async function render({ model, el }) {
  const div = document.createElement("div");
  el.append(div);
  const send = (what) => { try { model.send(what); } catch { /* the kernel is gone: what is drawn stays */ } };
  let spec = null, sequence = 0, drawing = false, again = false, wired = false, settle = null, drawnAt = 0, alive = true, Plotly = null, ring = null;

  const draw = async () => {
    if (!spec || !Plotly || !alive) return;
    if (drawing) { again = true; return; }
    const width = el.clientWidth;
    if (!width) { again = true; return; } // behind a tab: drawn when it shows
    clearTimeout(settle);
    drawing = true;
    again = false;
    const mine = sequence;
    try {
      const square = spec.layout.meta?.square ? { height: Math.max(220, Math.min(spec.layout.height, width)) } : {};
      await Plotly.react(div, spec.data, { ...spec.layout, ...square, width, autosize: false }, { ...CONFIG, ...spec.config });
      el.setAttribute("aria-label", spec.layout.meta?.alt ?? "");
      el.setAttribute("role", "figure");
      if (!wired) wire();
      shown(mine);
    } finally {
      drawing = false;
      drawnAt = performance.now();
      answer(mine);
      if (again) draw();
    }
  };

  const answer = (number) => {
    if (CALM.matches && spec?.layout.meta?.square) setTimeout(() => send({ drawn: number }), BREATH);
    else send({ drawn: number });
  };

  const shown = (number) => {
    circle();
    div.dataset.drawn = String(number);
    el.dispatchEvent(new CustomEvent("mmrec-drawn", { bubbles: true, detail: { name: model.get("name"), number } }));
  };

  const rows = (event) => (event?.points ?? []).map((point) => point.customdata).filter((row) => row !== undefined);
  const wire = () => {
    wired = true;
    let last = null, waiting = null;
    div.on("plotly_hover", (event) => {
      const [row] = rows(event);
      if (row === undefined || row === last) return;
      last = row;
      clearTimeout(waiting);
      waiting = setTimeout(() => send({ hover: row }), 25);
    });
    div.on("plotly_unhover", () => { last = null; });
    div.on("plotly_click", (event) => { const [row] = rows(event); if (row !== undefined) send({ click: row }); });
    div.on("plotly_selected", (event) => { if (event) send({ choose: rows(event) }); });
    div.on("plotly_deselect", () => send({ choose: null }));
    div.on("plotly_relayout", circle);
  };

  // Rings around one row, wherever this figure draws it: laid over the figure, so that nothing is drawn anew.
  const rings = document.createElement("div");
  rings.className = "mmrec-rings";
  el.append(rings);
  const circle = () => {
    rings.replaceChildren();
    const full = div._fullLayout;
    if (ring === null || !full?.xaxis) return;
    for (const trace of spec.data) {
      const at = trace.customdata ? trace.customdata.indexOf(ring) : -1;
      if (at < 0 || trace.visible === false) continue;
      const x = full.xaxis._offset + full.xaxis.d2p(trace.x[at]), y = full.yaxis._offset + full.yaxis.d2p(trace.y[at]);
      if (!Number.isFinite(x + y)) continue;
      const mark = document.createElement("span");
      mark.style.transform = `translate(${x}px, ${y}px)`;
      rings.append(mark);
    }
  };

  const onMessage = (message, buffers) => {
    if (message.figure) {
      spec = unpack(message.figure, buffers);
      sequence = message.number;
      draw();
    } else if (message.change && spec) {
      const data = unpack(message.change.data, buffers), layout = unpack(message.change.layout, buffers);
      for (const [index, changes] of Object.entries(data))
        for (const [path, value] of Object.entries(changes)) put(spec.data[index], path, value);
      for (const [path, value] of Object.entries(layout)) put(spec.layout, path, value);
      sequence = message.number;
      const moves = spec.layout.meta?.square && Object.values(data).every((changes) => Object.keys(changes).every((path) => "xy".includes(path)));
      const rest = Object.keys(layout).every((path) => path === "meta.alt");
      const fresh = wired && !drawing && !again && performance.now() - drawnAt < (el.matches(":hover") ? STALE : UNSEEN) + SETTLE;
      if (moves && rest && fresh && el.clientWidth && glide(div, spec, data)) {
        shown(sequence);
        answer(sequence);
        clearTimeout(settle);
        settle = setTimeout(draw, SETTLE);
      } else draw();
    } else if ("ring" in message) {
      ring = message.ring;
      circle();
    }
  };
  model.on("msg:custom", onMessage);
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (el.clientWidth && (el.clientWidth !== width || again)) { width = el.clientWidth; draw(); }
  });
  observer.observe(el);
  plotly(model).then((loaded) => { Plotly = loaded; send({ ready: true }); });
  return () => {
    alive = false;
    clearTimeout(settle);
    observer.disconnect();
    model.off("msg:custom", onMessage);
    if (Plotly) Plotly.purge(div);
  };
}
export default { render };
