"""Tables of a page, each in a box of its own that scrolls where the screen is narrow.

table("Rows by reason", ("Reason", "Rows"), [("no text", "12")], classes=("", "number"), id_="reasons")
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from whispertune.drawing.markup import Markup, element


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    classes: Sequence[str],
    id_: str,
) -> Markup:
    """A table whose first column names its rows. `classes` are those of the columns: number, prose, reason, where."""
    marked = [class_ or None for class_ in classes]
    head = (element("th", name, scope="col", class_=class_) for name, class_ in zip(heads, marked, strict=True))
    body = []
    for row in rows:
        first, *others = (_cell(text, class_, at) for at, (text, class_) in enumerate(zip(row, marked, strict=True)))
        body.append(element("tr", first, *others))
    content = element(
        "table",
        element("caption", caption, id=id_),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    # Whoever has no mouse scrolls with the keys, so the box must take the focus.
    return element("div", content, class_="scroll", tabindex=0, role="region", aria_labelledby=id_)


def _cell(text: str, class_: str | None, at: int) -> Markup:
    return element("td" if at else "th", text, scope=None if at else "row", class_=class_, dir="auto")
