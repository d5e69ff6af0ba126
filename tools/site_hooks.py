"""mkdocs hooks for the documentation site: takes the addresses of other hosts out of the theme's scripts.

The theme would load mermaid, a polyfill and figures of a repository host from outside when a page asks for them. No
page does, and a built site that holds no such address cannot start to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OUTSIDE = re.compile(r"""(?<=["'`])https?://(?!www\.w3\.org/)[^"'`]*(?=["'`])""")
"""A whole string literal that is the address of another host; names of XML namespaces are no addresses."""
NOTHING = "data:,"


def on_post_build(config: Mapping[str, Any]) -> None:
    """Called by mkdocs once all files are written."""
    for path in Path(config["site_dir"]).rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        clean = OUTSIDE.sub(NOTHING, text)
        if clean != text:
            path.write_text(clean, encoding="utf-8")
