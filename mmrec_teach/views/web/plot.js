// A plotly figure that Python feeds: the whole figure once, later only the arrays that changed. Python sends the next change
// when this one is drawn ("drawn"), so a slow page gets fewer pictures, never older ones.
const TYPES = { float32: Float32Array, int32: Int32Array, uint8: Uint8Array };
const CONFIG = {
  displaylogo: false,
  responsive: false,
  doubleClickDelay: 300,
  modeBarButtonsToRemove: ["autoScale2d", "toImage"],
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

async function render({ model, el }) {
  const div = document.createElement("div");
  el.append(div);
  const send = (what) => { try { model.send(what); } catch { /* the kernel is gone: what is drawn stays */ } };
  let spec = null, sequence = 0, drawing = false, again = false, wired = false, alive = true, Plotly = null, ring = null;

  const draw = async () => {
    if (!spec || !Plotly || !alive) return;
    if (drawing) { again = true; return; }
    const width = el.clientWidth;
    if (!width) { again = true; return; } // behind a tab: drawn when it shows
    drawing = true;
    again = false;
    const mine = sequence;
    try {
      const square = spec.layout.meta?.square ? { height: Math.max(220, Math.min(spec.layout.height, width)) } : {};
      await Plotly.react(div, spec.data, { ...spec.layout, ...square, width, autosize: false }, { ...CONFIG, ...spec.config });
      el.setAttribute("aria-label", spec.layout.meta?.alt ?? "");
      el.setAttribute("role", "figure");
      if (!wired) wire();
      circle();
      div.dataset.drawn = String(mine);
      el.dispatchEvent(new CustomEvent("mmrec-drawn", { bubbles: true, detail: { name: model.get("name"), number: mine } }));
    } finally {
      drawing = false;
      send({ drawn: mine });
      if (again) draw();
    }
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
      for (const [index, changes] of Object.entries(unpack(message.change.data, buffers)))
        for (const [path, value] of Object.entries(changes)) put(spec.data[index], path, value);
      for (const [path, value] of Object.entries(unpack(message.change.layout, buffers))) put(spec.layout, path, value);
      sequence = message.number;
      draw();
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
    observer.disconnect();
    model.off("msg:custom", onMessage);
    if (Plotly) Plotly.purge(div);
  };
}
export default { render };
