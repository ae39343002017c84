"use strict";
// The page's data and what its scripts share. Classic scripts with one name between them: modules cannot be loaded from disk.

const Report = {};

Report.data = JSON.parse(document.getElementById("data").textContent);

// columns -> one object a run; NaN and infinities come as words
Report.runs = Array.from({ length: Report.data.count }, () => ({}));
for (const [field, values] of Object.entries(Report.data.fields)) {
  const number = Report.data.numbers.includes(field);
  values.forEach((value, index) => {
    if (value !== null) Report.runs[index][field] = number ? Number(value) : value;
  });
}
Report.runs.forEach((run, index) => { run.index = index; });

Report.element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};

Report.number = (value) => {
  if (Number.isNaN(value)) return "no number";
  if (!Number.isFinite(value)) return value > 0 ? "infinite" : "-infinite";
  if (value === 0 || (Number.isInteger(value) && Math.abs(value) < 1e6)) return String(value);
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
};

Report.text = (value) => (typeof value === "number" ? Report.number(value) : String(value ?? ""));

// by value where both are numbers; random before pretrained; what is missing comes last
Report.compare = (left, right) => {
  const first = ["paper", "medium", "smoke", "random", "pretrained"];
  if (first.includes(left) && first.includes(right)) return first.indexOf(left) - first.indexOf(right);
  const missing = (value) => value === undefined || Number.isNaN(value);
  if (missing(left) || missing(right)) return missing(left) - missing(right);
  if (typeof left === "number" && typeof right === "number") return left < right ? -1 : Number(left > right);
  return String(left).localeCompare(String(right), "en", { numeric: true });
};
