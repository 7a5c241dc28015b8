// Formulas, graphs, and the code beside the lesson. KaTeX and Mermaid are loaded where a page has
// something for them to draw.

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

// Where there is room, a line that the lesson quotes is shown beside it, on the page of the code in a
// frame. A click with Ctrl or the like, and every click on a small screen, leads to that page.
function besideTheLesson() {
  if (window.self !== window.top) document.documentElement.classList.add("framed");
  const panel = document.createElement("aside");
  panel.className = "beside";
  panel.innerHTML = '<button type="button">Close the code</button><iframe title="Code"></iframe>';
  const close = () => {
    panel.remove();
    document.body.classList.remove("has-beside");
  };
  panel.querySelector("button").addEventListener("click", close);
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.line-of-code");
    const plain = !(event.ctrlKey || event.metaKey || event.shiftKey);
    if (!link || !plain || !matchMedia("(min-width: 75em)").matches) return;
    event.preventDefault();
    panel.querySelector("iframe").src = link.href;
    document.body.append(panel);
    document.body.classList.add("has-beside");
    link.scrollIntoView({ block: "nearest" });
  });
}

document.addEventListener("DOMContentLoaded", () => {
  besideTheLesson();
  formulas();
  graphs();
});
