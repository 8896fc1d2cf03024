// A piece of the panel written by Python as HTML. What a reader does to it goes back as small messages:
//   data-do="name"      a button: {do: name, value: data-value}
//   data-name="name"    a control: {set: name, value}; its value comes from the trait `values`
//   data-tab="name"     a tab: shows the panes of class mmrec-pane-name, here in the page
//   data-copy="key"     a button that copies the field with that data-key
const number = (value) => {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e4 ? String(Number(value.toPrecision(3))) : value.toExponential(1).replace("e+", "e").replace(".0e", "e");
};
const round = (value) => Number(value.toPrecision(2)); // where a slider stands on a scale of powers of ten: what it shows is what holds

function render({ model, el }) {
  const send = (what) => { try { model.send(what); } catch { /* the kernel is gone: what is shown stays */ } };
  const isLog = (input) => input.dataset.scale === "log";
  const read = (input) => {
    if (input.type === "checkbox") return input.checked;
    if (input.type === "range") return isLog(input) ? round(10 ** Number(input.value)) : Number(input.value);
    if (input.type === "number") return input.value === "" ? null : Number(input.value);
    return input.value;
  };
  const say = (input, value) => {
    if (input.type !== "range") return;
    input.setAttribute("aria-valuetext", number(value));
    const share = (input.value - input.min) / (input.max - input.min);
    input.style.setProperty("--share", share.toFixed(4));
    const text = el.querySelector(`[data-of="${CSS.escape(input.dataset.name)}"]`);
    if (text && document.activeElement !== text) text.value = number(value);
  };
  // What a reader has just moved: Python's echo of an earlier value must not pull it back; a moment later both agree.
  const moved = new Map();
  const REST = 700;
  let later = null;
  const fill = () => {
    for (const [name, entry] of Object.entries(model.get("values"))) {
      const key = CSS.escape(name);
      const held = performance.now() - (moved.get(name) ?? -REST) < REST;
      if (held) { clearTimeout(later); later = setTimeout(fill, REST + 50); }
      for (const element of el.querySelectorAll(`[data-name="${key}"], [data-do="${key}"]`)) {
        if ("disabled" in entry) element.disabled = entry.disabled;
        if ("label" in entry) {
          element.querySelector("span").textContent = entry.label;
          element.title = entry.tip;
          element.classList.toggle("mmrec-main", entry.main);
        }
        if ("pressed" in entry) element.setAttribute("aria-pressed", String(entry.pressed));
        if (!("value" in entry) || held || !element.matches("[data-name]")) continue;
        if (element.type === "checkbox") element.checked = entry.value;
        else if (element.type === "radio") element.checked = element.value === String(entry.value);
        else if (element.type === "range") {
          element.value = isLog(element) ? Math.log10(entry.value) : entry.value;
          say(element, entry.value);
        } else if (element !== document.activeElement) element.value = entry.value;
      }
      const slider = el.querySelector(`input[type=range][data-name="${key}"]`);
      if (slider && "disabled" in entry) slider.closest(".mmrec-row")?.classList.toggle("mmrec-off", entry.disabled);
    }
  };
  const open = new Map();
  const show = () => {
    for (const details of el.querySelectorAll("details[data-key]")) open.set(details.dataset.key, details.open);
    const active = el.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    el.innerHTML = model.get("html");
    for (const details of el.querySelectorAll("details[data-key]"))
      if (open.has(details.dataset.key)) details.open = open.get(details.dataset.key);
    if (active) el.querySelector(`[data-key="${CSS.escape(active)}"]`)?.focus({ preventScroll: true });
    fill();
    const first = el.querySelector("[data-tab]");
    if (first) {
      const root = el.closest(".mmrec-whatif");
      if (root) turn(root.dataset.tab ?? first.dataset.tab, false);
      else requestAnimationFrame(() => turn(first.dataset.tab, false));
    }
  };

  const turn = (name, tell = true) => {
    const root = el.closest(".mmrec-whatif");
    if (!root) return;
    root.dataset.tab = name;
    for (const tab of el.querySelectorAll("[data-tab]")) {
      const mine = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", String(mine));
      tab.tabIndex = mine ? 0 : -1;
      const pane = root.querySelector(`.mmrec-pane-${tab.dataset.tab}`);
      if (!pane) continue;
      pane.id ||= `mmrec-pane-${Math.random().toString(36).slice(2)}`;
      tab.id ||= `${pane.id}-tab`;
      pane.setAttribute("role", "tabpanel");
      pane.setAttribute("aria-labelledby", tab.id);
      tab.setAttribute("aria-controls", pane.id);
      pane.classList.toggle("mmrec-shown", mine);
    }
    if (tell) send({ tab: name });
  };

  const pending = new Map(); // at most one message a frame while a slider is dragged
  const set = (input) => {
    const value = read(input);
    if (value === null) return;
    say(input, value);
    moved.set(input.dataset.name, performance.now());
    pending.set(input.dataset.name, value);
    if (pending.size > 1) return;
    requestAnimationFrame(() => {
      for (const [name, last] of pending) send({ set: name, value: last });
      pending.clear();
    });
  };
  el.addEventListener("input", (event) => {
    const input = event.target;
    if (input.dataset.name && input.type === "range") set(input);
    if (input.dataset.find !== undefined) send({ do: input.dataset.find, value: input.value, typing: true });
  });
  el.addEventListener("change", (event) => {
    const input = event.target;
    if (input.dataset.of !== undefined) {
      const value = Number(input.value.replace(",", "."));
      if (input.value.trim() === "" || !Number.isFinite(value)) { fill(); return; }
      send({ set: input.dataset.of, value });
    } else if (input.dataset.name && input.type !== "range") set(input);
  });
  // a number that was refused while its field had the focus: show what holds
  el.addEventListener("focusout", (event) => { if (event.target.dataset.of !== undefined) setTimeout(fill, 300); });
  el.addEventListener("keydown", (event) => {
    // JupyterLab listens to keys of the whole page: what is typed here stays here
    if (!event.ctrlKey && !event.metaKey && !(event.shiftKey && event.key === "Enter")) event.stopPropagation();
    const target = event.target;
    if (event.key === "Enter" && target.dataset.enter) { event.preventDefault(); send({ do: target.dataset.enter, value: target.value }); }
    if (target.dataset.tab) {
      const tabs = [...el.querySelectorAll("[data-tab]")];
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      let next = step && tabs[(tabs.indexOf(target) + step + tabs.length) % tabs.length];
      if (event.key === "Home") next = tabs[0];
      if (event.key === "End") next = tabs[tabs.length - 1];
      if (next) { event.preventDefault(); turn(next.dataset.tab); next.focus(); }
    }
  });
  el.addEventListener("click", async (event) => {
    const target = event.target.closest("[data-do], [data-tab], [data-copy]");
    if (!target || !el.contains(target) || target.disabled) return;
    if (target.dataset.tab) { turn(target.dataset.tab); return; }
    if (target.dataset.copy) {
      const field = el.querySelector(`[data-key="${target.dataset.copy}"]`);
      field.select();
      let done = false;
      try { await navigator.clipboard.writeText(field.value); done = true; }
      catch { done = document.execCommand("copy"); } // a page without https has no clipboard
      const label = target.textContent;
      target.textContent = done ? "Copied ✓" : "Press Ctrl+C";
      setTimeout(() => { target.textContent = label; }, 1600);
      return;
    }
    const field = target.dataset.from && el.querySelector(`[data-key="${target.dataset.from}"]`);
    send({ do: target.dataset.do, value: field ? field.value : target.dataset.value ?? null });
  });
  const onMessage = (message) => { if (message.turn) turn(message.turn); };
  model.on("msg:custom", onMessage);
  model.on("change:html", show);
  model.on("change:values", fill);
  show();
  send({ ready: true });
  return () => { clearTimeout(later); model.off("msg:custom", onMessage); model.off("change:html", show); model.off("change:values", fill); };
}
export default { render };
