"""How Sphinx makes the site of the pages that build.py writes."""

import html
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from listing import find, in_order

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.transforms import SphinxTransform

project = "Deep learning, branch by branch"
html_title = project
extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a lesson may go from a title to a small heading
highlight_language = "none"  # of a block that does not say what it holds: tables, commands
smartquotes = False  # two hyphens are a flag
html_theme = "furo"
pygments_dark_style = "github-dark"
html_math_renderer = "katex"
html_static_path = ["static", "../.site/vendor"]
html_favicon = "static/icon.svg"
html_css_files = ["katex/dist/katex.min.css", "style.css"]
html_js_files = ["site.js"]
html_copy_source = html_show_sourcelink = html_use_index = False
html_show_copyright = False


class Mermaid(Directive):
    """A graph, which site.js draws."""

    has_content = True

    def run(self):
        graph = html.escape("\n".join(self.content))
        return [nodes.raw("", f'<pre class="mermaid">{graph}</pre>', format="html")]


class QuotedLines(SphinxTransform):
    """Make what a lesson quotes of the code a link to the line."""

    default_priority = 500

    def apply(self):
        home = Path(self.env.doc2path(self.env.docname)).parent
        own = in_order(path.name for path in home.glob("*.py"))
        files = {name: (home / name).read_text(encoding="utf-8") for name in own}
        for quoted in list(self.document.findall(nodes.literal)):
            place = find(quoted.astext(), files)
            if place and not isinstance(quoted.parent, (nodes.reference, nodes.title)):
                quoted.replace_self(link(place, quoted.deepcopy()))
        for block in list(self.document.findall(nodes.literal_block)):
            if place := find(block.astext(), files):
                words = nodes.Text("{}, line {}".format(*place))
                source = nodes.paragraph("", "", link(place, words), classes=["source"])
                block.parent.insert(block.parent.index(block) + 1, source)


def link(place, words):
    file, line = place
    target, title = f"{Path(file).stem}.html#L{line}", f"{file}, line {line}"
    return nodes.reference("", "", words, refuri=target, reftitle=title, classes=["line-of-code"])


def inline(self, node):
    self.body.append(f'<span class="math">{html.escape(node.astext())}</span>')
    raise nodes.SkipNode


def display(self, node):
    self.body.append(f'<div class="math">{html.escape(node.astext())}</div>\n')
    raise nodes.SkipNode


def along_the_line(app, page, template, context, doctree):
    """A lesson has links of its own to those before and after; the order of pages is no line."""
    context["prev"] = context["next"] = None


def setup(app):
    app.add_directive("mermaid", Mermaid)
    app.add_transform(QuotedLines)
    app.add_html_math_renderer("katex", (inline, None), (display, None))
    app.connect("html-page-context", along_the_line)
