"use strict";
// A long name keeps its end: layers differ there.
function shortenNames(spec, most) {
  for (const { encoding } of spec.layer ?? [])
    if (encoding?.y?.type === "nominal")
      encoding.y.axis = {
        ...encoding.y.axis,
        labelExpr: `length(datum.label) > ${most} ? '…' + slice(datum.label, ${1 - most}) : datum.label`,
      };
}

// Replace the drawn plots by live ones: as wide as the window, with tooltips.
(async () => {
  const narrow = 560;
  for (const figure of document.querySelectorAll("figure[data-entry]")) {
    const plot = figure.querySelector(".plot");
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const live = document.createElement("div");
    live.className = "live waiting";
    plot.append(live);
    const width = plot.clientWidth;
    spec.width = "container";
    spec.config.padding = { left: 0, right: 12, top: 8, bottom: 4 };
    spec.config.legend.columns = Math.max(1, Math.floor((width - 20) / Number(figure.dataset.entry)));
    if (width < narrow) shortenNames(spec, Math.floor((width * 0.45) / 6.5));
    try {
      await vegaEmbed(live, spec, { ast: true, actions: false, renderer: "svg", tooltip: { theme: "autosparse" } });
      live.className = "live";
      plot.replaceChildren(live);
    } catch (error) {
      live.remove();
      console.error(error);
    }
  }
  document.documentElement.dataset.ready = "true";
})();
