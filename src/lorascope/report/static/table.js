"use strict";
// The table of rows: sorted by any column, searched, some rows at a time.

Report.makeTable = () => {
  const table = document.getElementById("table");
  const pager = document.getElementById("pager");
  const search = document.getElementById("search");
  const columns = Report.data.columns;
  const numbers = new Set(Report.data.numbers);
  const size = 25;
  let order = { field: null, up: true };
  let start = 0;
  let runs = [];

  const heads = columns.map(({ field, label }) => {
    const button = Report.element("button", { type: "button" }, label);
    button.addEventListener("click", () => {
      order = { field, up: order.field === field ? !order.up : true };
      start = 0;
      draw();
    });
    return Report.element("th", { scope: "col", class: numbers.has(field) ? "number" : null }, button);
  });
  const body = Report.element("tbody");
  table.append(Report.element("thead", {}, Report.element("tr", {}, ...heads)), body);

  const previous = Report.element("button", { type: "button", class: "quiet" }, "Previous");
  const next = Report.element("button", { type: "button", class: "quiet" }, "Next");
  const where = Report.element("span", { role: "status", id: "where" });
  previous.addEventListener("click", () => { start = Math.max(0, start - size); draw(); });
  next.addEventListener("click", () => { start += size; draw(); });
  pager.append(previous, where, next);
  search.addEventListener("input", () => { start = 0; draw(); });

  // one text a run, made when it is first searched
  const texts = new Map();
  const textOf = (run) => {
    if (!texts.has(run.index)) {
      const shown = columns.map(({ field }) => `${run[field] ?? ""} ${Report.text(run[field])}`);
      texts.set(run.index, `${shown.join(" ")} ${run.status ?? ""}`.toLowerCase());
    }
    return texts.get(run.index);
  };

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = runs.filter((run) => words.every((word) => textOf(run).includes(word)));
    if (order.field) {
      const sign = order.up ? 1 : -1;
      const known = found.filter((run) => run[order.field] !== undefined);
      const unknown = found.filter((run) => run[order.field] === undefined);
      found = [...known.sort((a, b) => sign * Report.compare(a[order.field], b[order.field])), ...unknown];
    }
    heads.forEach((head, index) => {
      const sorted = columns[index].field === order.field;
      if (sorted) head.setAttribute("aria-sort", order.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    body.replaceChildren(...found.slice(start, start + size).map(row));
    const last = Math.min(start + size, found.length);
    where.textContent = found.length ? `${start + 1} to ${last} of ${found.length}` : "No row fits.";
    previous.disabled = start === 0;
    next.disabled = last >= found.length;
    previous.hidden = next.hidden = found.length <= size;
  }

  function row(run) {
    const cells = columns.map(({ field }) => cell(field, run[field]));
    const place = columns.findIndex(({ field }) => field === "message");
    if (run.status === "failed" && place >= 0) cells[place].prepend(Report.element("b", { class: "bad" }, "failed: "));
    return Report.element("tr", { class: run.status === "failed" ? "failed" : null }, ...cells);
  }

  function cell(field, value) {
    if (value === undefined || value === "") return Report.element("td", {});
    if (numbers.has(field)) return Report.element("td", { class: "number", title: String(value) }, Report.number(value));
    if (field === "scale") {
      return Report.element("td", {}, Report.element("span", { class: "scale", "data-scale": value }, value));
    }
    if (field === "commit") return Report.element("td", { title: value }, Report.element("code", {}, short(value)));
    if (field === "cell" || field === "command") return Report.element("td", {}, Report.element("code", {}, value));
    if (field === "message" || field === "spec") return Report.element("td", { class: "long" }, long(value, field));
    return Report.element("td", {}, String(value));
  }

  // ten digits tell commits apart; what stands behind them must stay
  function short(commit) {
    return commit.replace(/^([0-9a-f]{10})[0-9a-f]+/, "$1");
  }

  function long(value, field) {
    const shown = field === "spec" ? "JSON" : value.slice(0, 60);
    if (field !== "spec" && value.length <= 70) return value;
    const whole = field === "spec" ? Report.element("code", {}, value) : value;
    const summary = Report.element("summary", {}, field === "spec" ? shown : `${shown.trimEnd()} …`);
    return Report.element("details", {}, summary, whole);
  }

  Report.drawTable = (visible) => { runs = visible; start = 0; draw(); };
};
