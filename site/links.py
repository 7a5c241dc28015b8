"""Whether the finished site holds together: links, anchors, and nothing from another host."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """The anchors of a page, where it leads, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.loads, self.nameless = {"", "top"}, [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag in ("a", "use") and "href" in found:
            self.links.append(found["href"])
        if tag in LOADED and LOADED[tag] in found:
            self.loads.append(found[LOADED[tag]])
        if tag == "img" and not found.get("alt"):
            self.nameless.append(found.get("src"))


def elsewhere(target):
    return bool(urlsplit(target).netloc)


def problems(site):
    """What is wrong with a folder of pages, each in a line."""
    pages = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }
    wrong = []
    for path, page in pages.items():
        where = path.relative_to(site).as_posix()
        wrong += [
            f"{where}: {src} has no text for those who cannot see it" for src in page.nameless
        ]
        wrong += [f"{where} loads {it} from another host" for it in page.loads if elsewhere(it)]
        for target in page.links + page.loads:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not file.is_file():
                wrong.append(f"{where}: {target} is not there")
            elif file in pages and unquote(parts.fragment) not in pages[file].anchors:
                wrong.append(f"{where}: {target} has no such anchor")
    for path in site.rglob("*.css"):
        where = path.relative_to(site).as_posix()
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", text):
            target = "".join(target)
            if elsewhere(target):
                wrong.append(f"{where} loads {target} from another host")
            elif not target.startswith(("data:", "#")) and not (path.parent / target).is_file():
                wrong.append(f"{where}: {target} is not there")
    return wrong
