"use strict";
// Choices by method, network, depth, seed and scale: native checkboxes, so that the keyboard works as everywhere.

Report.chosen = new Map();

Report.visible = () =>
  Report.runs.filter((run) => [...Report.chosen].every(([field, values]) => values.has(run[field] ?? "-")));

Report.makeFilters = (changed) => {
  const form = document.getElementById("filters");
  for (const { field, label, open } of Report.data.filters) {
    const values = [...new Set(Report.runs.map((run) => run[field] ?? "-"))].sort(Report.compare);
    Report.chosen.set(field, new Set(values));
    form.append(group(field, label, values, open));
  }
  form.hidden = !Report.data.filters.length;
  if (form.hidden) return;
  const reset = Report.element("button", { type: "reset", class: "quiet" }, "Show all");
  form.append(reset);
  form.addEventListener("change", () => { read(); changed(); });
  // a form's controls have their old state until its reset has been handled
  form.addEventListener("reset", () => setTimeout(() => { read(); changed(); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  // a browser that comes back to the page may keep what was chosen
  read();

  function group(name, title, values, shown) {
    const choices = values.map((value) => {
      const box = Report.element("input", { type: "checkbox", name, value: String(value), checked: true });
      return Report.element("label", {}, box, ` ${value}`);
    });
    if (shown) return Report.element("fieldset", {}, Report.element("legend", {}, title), ...choices);
    const summary = Report.element("summary", {}, `${title} (${values.length})`);
    const none = Report.element("button", { type: "button", class: "quiet" }, "None");
    none.addEventListener("click", () => {
      choices.forEach((choice) => { choice.firstChild.checked = false; });
      read();
      changed();
    });
    return Report.element("details", { class: "many" }, summary, none, ...choices);
  }

  function read() {
    for (const [field, values] of Report.chosen) {
      values.clear();
      for (const box of form.querySelectorAll("input:checked")) {
        if (box.name !== field) continue;
        values.add(Report.data.numbers.includes(field) && box.value !== "-" ? Number(box.value) : box.value);
      }
    }
  }
};
