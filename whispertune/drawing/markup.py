"""HTML made so that text stays text: what is not `Markup` is escaped.

element("p", "5 < 6", class_="lead")               # <p class="lead">5 &lt; 6</p>
element("ul", element("li", "a"), element("li", "b"))
element("img", src=data_uri("image/png", png), alt="…")
"""

from __future__ import annotations

import base64
from html import escape

VOID = frozenset({"meta", "link", "img"})  # have no end tag


class Markup(str):
    """HTML or SVG that stands as it is."""

    __slots__ = ()


Child = str | None  # Markup, or text; None is nothing
Attribute = str | int | float | bool | None  # True: the name alone; False and None: left out


def element(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """One element. `class_` is written `class`, and other underscores become hyphens."""
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Several one behind the other."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children if child))


def data_uri(kind: str, content: bytes) -> str:
    """Content that stands in the page itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{escape(text)}"'
