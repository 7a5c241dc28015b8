// Formulas and graphs, drawn by KaTeX and Mermaid, which are loaded where a page has any.

const here = document.currentScript.src;
const load = (file) =>
  new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = new URL(file, here);
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  });

// Without a server, a browser lets no page read the others, which search does for its excerpts.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

async function formulas() {
  const found = document.querySelectorAll(".math");
  if (!found.length) return;
  await load("katex/dist/katex.min.js");
  for (const place of found) {
    katex.render(place.textContent, place, { displayMode: place.tagName === "DIV" });
  }
}

async function graphs() {
  const found = [...document.querySelectorAll("pre.mermaid")];
  if (!found.length) return;
  const sources = found.map((place) => place.textContent);
  await load("mermaid/dist/mermaid.min.js");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () =>
    document.body.dataset.theme === "dark" ||
    (document.body.dataset.theme !== "light" && system.matches);
  let drawn;
  const draw = async () => {
    if (drawn === dark()) return;
    drawn = dark();
    mermaid.initialize({
      startOnLoad: false,
      theme: drawn ? "dark" : "neutral",
      themeCSS: ".cluster rect { fill: none; filter: none; }",
      fontFamily: getComputedStyle(document.body).fontFamily,
    });
    found.forEach((place, i) => {
      place.textContent = sources[i];
      place.classList.remove("drawn");
      delete place.dataset.processed;
    });
    await mermaid.run({ nodes: found });
    found.forEach((place) => place.classList.add("drawn"));
  };
  await draw();
  system.addEventListener("change", draw);
  new MutationObserver(draw).observe(document.body, { attributeFilter: ["data-theme"] });
}

document.addEventListener("DOMContentLoaded", () => {
  formulas();
  graphs();
});
