"""KaTeX and Mermaid, which come with the site so that it loads nothing from another host."""

import base64
import hashlib
import shutil
import subprocess
import tarfile

from branches import Refusal

# {package of npm: (version, sha512 of its archive, what is taken from it)}
PACKAGES = {
    "katex": (
        "0.19.1",
        "jG8uKntjSEcm2EpQOh0XturpPuuC9r3Sq5HLHdsFdWZT27E672SF19QEi+of0/YeOy15lDgRhKvr5614uRrEfA==",
        ("LICENSE", "dist/katex.min.js", "dist/katex.min.css", "dist/fonts/"),
    ),
    "mermaid": (
        "12.3.0",
        "4113TdXeLAsMruJ79OpFL5O8+LTFXhQqZ260rF3tgUmiNAtRm4Uume04I+65PRN6yZ69J4f8rVYWW8zRk65UYw==",
        ("LICENSE", "dist/mermaid.min.js"),
    ),
}


def fetch(folder):
    """Bring the packages into folder/<package>/, where they are not there yet."""
    for name, (version, sha512, wanted) in PACKAGES.items():
        home, complete = folder / name, folder / name / version
        if complete.exists():
            continue
        archive = download(f"{name}@{version}", folder, folder / f"{name}-{version}.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != sha512:
            raise Refusal(f"{name}@{version} is not the package that site/vendor.py knows")
        shutil.rmtree(home, ignore_errors=True)
        with tarfile.open(archive) as members:
            for member in members:
                path = member.name.removeprefix("package/")
                if member.isfile() and path.startswith(wanted) and not path.endswith(".map"):
                    (home / path).parent.mkdir(parents=True, exist_ok=True)
                    (home / path).write_bytes(members.extractfile(member).read())
        archive.unlink()
        complete.touch()


def download(package, folder, archive):
    """The archive of a package, without what it depends on: its scripts are whole by themselves."""
    npm = shutil.which("npm")
    if npm is None:
        raise Refusal(
            "npm is not installed, which brings KaTeX and Mermaid (it is part of Node.js)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", "--silent", "--pack-destination", str(folder), package]
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode:
        raise Refusal(f"npm pack {package} failed")
    return archive
