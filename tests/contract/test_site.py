"""The documentation site builds strictly, shows every page, and fetches nothing from another host."""

import html.parser
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"(?:https?:)?//[\w.-]+\.[a-z]")
FETCHING = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
    "form": ("action",),
    "meta": ("content",),
}
"""Tag -> the attributes whose address a browser fetches by itself; an <a> waits for the reader."""


class Resources(html.parser.HTMLParser):
    """Collects what a page fetches, and the text of its styles and scripts."""

    def __init__(self):
        super().__init__()
        self.fetched, self.code, self.inside = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.fetched += [value for name, value in attrs if name in FETCHING.get(tag, ()) and value]
        self.code += [value for name, value in attrs if name == "style" and value]

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside in ("script", "style"):
            self.code.append(data)


def outside(text):
    """Strings and url(...) of a script, a style or a picture that are addresses of other hosts.

    Comments are none, nor addresses within a message, nor the names of XML namespaces.
    """
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    found = re.findall(r"""(?:["'`=]|url\()\s*((?:https?:)?//[\w-]+[.:$][^\s"'`)>]*)""", text)
    return [address for address in found if not address.startswith("http://www.w3.org/")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    path = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def test_the_strict_build_writes_every_page(site):
    """A link that leads nowhere, a missing anchor and a public name that does not exist are errors of the build."""
    pages = {p.relative_to(ROOT / "docs").with_suffix(".html") for p in (ROOT / "docs").rglob("*.md")}
    assert {p.relative_to(site) for p in site.rglob("*.html")} >= pages


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = list(_pages(yaml.safe_load(text)["nav"]))
    there = [str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(there)


def test_no_page_fetches_anything_from_another_host(site):
    found = {}
    for path in site.rglob("*.html"):
        parser = Resources()
        parser.feed(path.read_text(encoding="utf-8"))
        bad = [value for value in parser.fetched if ADDRESS.match(value)]
        bad += [address for code in parser.code for address in outside(code)]
        if bad:
            found[str(path.relative_to(site))] = bad
    assert found == {}


@pytest.mark.parametrize("kind", ["js", "css", "svg"])
def test_no_script_style_or_picture_names_another_host(site, kind):
    texts = {p: p.read_text(encoding="utf-8") for p in site.rglob(f"*.{kind}")}
    assert texts
    assert {str(p.relative_to(site)): outside(text) for p, text in texts.items() if outside(text)} == {}


def test_the_search_for_addresses_finds_them():
    assert outside('fetch("https://a.example/x")') == ["https://a.example/x"]
    assert outside("a{background:url(//cdn.example/x.png)}") == ["//cdn.example/x.png"]
    assert outside("fetch(`https://api.example/${x}`)") == ["https://api.example/${x}"]
    assert outside('/* "https://a.example" */ e("http://www.w3.org/2000/svg"); log("see https://a.example")') == []


def test_every_public_name_is_in_the_reference(site):
    import spiral
    import spiral.testing
    import spiral.theory

    text = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for module in (spiral, spiral.theory, spiral.testing):
        for name in module.__all__:
            assert f'id="{module.__name__}.{name}"' in text, f"{module.__name__}.{name}"


def _pages(nav):
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            if isinstance(value, str):
                yield value
            else:
                yield from _pages(value)
