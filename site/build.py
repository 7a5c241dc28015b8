"""Build the course as a web page, from main alone: nothing is trained.

Every page is made from path.toml, the branches as they would be laid out today, and results.csv, so
a new branch appears by itself. The pages are written as Markdown to .site/source/, which Sphinx
makes the site of, in .site/html/. It needs no server and no network to be looked at.

    python site/build.py                      build it
    python site/build.py --serve              build it, and open it in a browser
    python site/build.py --repository URL     say in its commands where the repository is

Exit code: 0, the site is whole; 2, an error, among them a link that leads nowhere.
"""

import argparse
import functools
import http.server
import shutil
import sys
import tempfile
import webbrowser
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import branches
import home
import links
import notebook
import pages
import vendor
from branches import Refusal

SITE = branches.ROOT / ".site"


def write_source(folder, repository):
    """The source of every page, in a folder that is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as laid_out:
        models = branches.preview(Path(laid_out))
        for model in models:
            name = model["name"]
            (folder / name).mkdir(parents=True)
            if (Path(laid_out) / name / "figures").exists():
                shutil.copytree(Path(laid_out) / name / "figures", folder / name / "figures")
            pages.write(folder, Path(laid_out), model, models, repository)
            text = notebook.notebook(model, repository)
            (folder / name / f"{name}.ipynb").write_text(text, encoding="utf-8", newline="\n")
    home.write(folder, models, repository)


def build(repository):
    """The folder of the finished site."""
    from sphinx.cmd.build import build_main

    write_source(SITE / "source", repository)
    vendor.fetch(SITE / "vendor")
    shutil.rmtree(SITE / "html", ignore_errors=True)
    words = ["-W", "--keep-going", "-q", "-E", "-c", HERE, "-d", SITE / "doctrees"]
    if build_main([*map(str, words), str(SITE / "source"), str(SITE / "html")]):
        raise Refusal("Sphinx has found faults, for the reasons above")
    wrong = links.problems(SITE / "html")
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        raise Refusal(f"{len(wrong)} faults in the finished pages")
    return SITE / "html"


def address():
    """Where this repository was cloned from, or else where it is."""
    remote = branches.leading_remote()
    return branches.git("remote", "get-url", remote) if remote else branches.ROOT.as_posix()


def serve(folder):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"The site is at {address} until Ctrl-C")
        webbrowser.open(address)
        server.serve_forever()


def main(argv=None):
    description, _, details = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(
        description=description,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--repository", metavar="URL", help="default: that of the remote")
    parser.add_argument("--serve", action="store_true", help="open it in a browser as well")
    options = parser.parse_args(argv)
    try:
        folder = build(options.repository or address())
        print(f"The site is whole: {folder / 'index.html'}")
        if options.serve:
            serve(folder)
    except KeyboardInterrupt:
        return 130
    except (Refusal, OSError, ImportError) as error:  # ImportError: Sphinx is not installed
        print(f"build.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
