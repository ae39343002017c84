"use strict";
// Filters first, then whatever they act on.

(() => {
  const shown = document.getElementById("shown");
  const update = () => {
    const visible = Report.visible();
    shown.textContent =
      visible.length === Report.runs.length ? "" : `${visible.length} of ${Report.runs.length} rows are shown.`;
    if (Report.drawPlots) Report.drawPlots(visible);
    Report.drawTable(visible);
  };
  Report.makeFilters(update);
  Report.makeTable();
  if (Report.makePlots) Report.makePlots(update);
  update();
})();
