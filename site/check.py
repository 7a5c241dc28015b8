"""Look at the finished site in a browser: python site/check.py [--pictures FOLDER].

Every page has to load without an error and without asking another host, and to fit a telephone of
400 pixels; formulas and graphs have to be drawn, search has to find "dropout", and the graph to
lead to the branches. Chromium is taken from the PATH, or from CHROMIUM.
"""

import argparse
import functools
import http.server
import os
import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

SITE = Path(__file__).resolve().parents[1] / ".site" / "html"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PICTURED = (
    "index.html",
    "AlexNet/index.html",
    "AlexNet/since-LeNet.html",
    "Transformer/index.html",
    "AlexNet/model.html",
)
VIEWS = {"light": (1440, 900), "dark": (1440, 900), "phone": (400, 800)}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


def settled(page):
    """Wait until KaTeX and Mermaid have drawn."""
    page.wait_for_function(
        "!document.querySelector('.math:not(:has(.katex)), pre.mermaid:not(.drawn)')"
    )


def look_at(page, address, wrong):
    """A page as a reader on a telephone gets it."""
    page.goto(address)
    settled(page)
    if page.locator(".katex-error, pre.mermaid .error-icon").count():
        wrong.append(f"{address}: a formula or a graph has an error")
    width = page.evaluate("document.documentElement.scrollWidth")
    if width > 400:
        wrong.append(f"{address}: {width} pixels wide on a telephone of 400")


def use(page, root, wrong):
    """What a reader does: search, follow the graph, read code beside the lesson, see a diff."""
    page.set_viewport_size({"width": 1440, "height": 900})
    for home in (root, f"{SITE.as_uri()}/"):  # with a server, and without one
        page.goto(f"{home}search.html?q=dropout")
        page.wait_for_selector("#search-results li a")
        found = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
        if not any(address.startswith(f"{home}AlexNet/index.html") for address in found):
            wrong.append(f"{home}: search does not find dropout in AlexNet")
    page.goto(f"{root}index.html")
    settled(page)
    page.locator("pre.mermaid a", has_text="AlexNet").hover()
    page.wait_for_selector(".mermaidTooltip >> text=2012: ")
    page.locator("pre.mermaid a", has_text="AlexNet").click()
    page.wait_for_url("**/AlexNet/index.html")
    page.locator("a.line-of-code", has_text="F.dropout(f(self.fc6(x))").click()
    line = page.frame_locator(".beside iframe").locator(".line:target")
    if "F.dropout" not in line.inner_text() or not page.url.endswith("/AlexNet/index.html"):
        wrong.append("AlexNet/index.html: a click on a quoted line does not show the code")
    if page.locator("article").bounding_box()["width"] > 0.52 * 1440:
        wrong.append("AlexNet/index.html: the code covers the lesson")
    page.keyboard.press("Escape")
    page.goto(f"{root}VGG/since-AlexNet.html")
    beside = page.locator(".change del").first, page.locator(".change ins").first
    left, right = (half.bounding_box() for half in beside)
    page.check("#unified")
    above, below = (half.bounding_box() for half in beside)
    if not (left["x"] < right["x"] and above["x"] == below["x"]):
        wrong.append("VGG/since-AlexNet.html: the switch does not switch")


def photograph(browser, root, folder):
    for view, (width, height) in VIEWS.items():
        scheme = "dark" if view == "dark" else "light"
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        for path in PICTURED:
            page.goto(root + path)
            settled(page)
            name = path.replace("/", "-").replace(".html", f"-{view}.png")
            page.screenshot(path=folder / name, full_page=True)
        page.close()


def check(root, pictures=None):
    """What is wrong, each in a line."""
    wrong = []
    chromium = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 400, "height": 800})
        page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
        page.on("console", lambda m: m.type == "error" and wrong.append(f"{page.url}: {m.text}"))
        page.on(
            "request", lambda r: r.url.startswith((root, "data:", "file:")) or wrong.append(r.url)
        )
        for path in sorted(SITE.rglob("*.html")):
            if "_static" not in path.parts:
                look_at(page, root + path.relative_to(SITE).as_posix(), wrong)
        use(page, root, wrong)
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            photograph(browser, root, pictures)
        browser.close()
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="put screenshots there")
    options = parser.parse_args()
    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        wrong = check(f"http://127.0.0.1:{server.server_port}/", options.pictures)
        server.shutdown()
    print(*wrong, f"{len(wrong)} faults in the browser", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
