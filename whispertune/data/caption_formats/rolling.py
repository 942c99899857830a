"""YouTube's automatic captions, as yt-dlp saves them in VTT: each line is shown again above the next one.

    00:00:00.160 --> 00:00:02.389
    hello<00:00:00.480><c> and</c><00:00:00.640><c> welcome</c>

    00:00:02.389 --> 00:00:02.399
    hello and welcome

    00:00:02.399 --> 00:00:05.029
    hello and welcome
    to<00:00:02.720><c> the</c><00:00:03.040><c> show</c>

    said_once(cues, plain)  # "hello and welcome" and "to the show", each with its own times and markup

Only files with such times within the text are changed: others may repeat a line because it is said again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from whispertune.data.caption_formats.cues import Cue

_INLINE_TIME = re.compile(r"<(?:[0-9]{2,}:)?[0-9]{2}:[0-9]{2}\.[0-9]{3}><c[.>]")
_LONGEST_REPEAT_S = 0.05  # it is 0.01 as a rule
_ROUNDING_S = 1e-6


def said_once(cues: Sequence[Cue], plain: Callable[[str], str]) -> list[Cue]:
    """The cues, whose text is as it is written, without what is shown a second time; `plain` takes markup out."""
    if not any(_INLINE_TIME.search(cue.text) for cue in cues):
        return list(cues)
    kept: list[Cue] = []
    before: Cue | None = None
    shown, behind_repeat = "", False  # the last line of the cue before, and whether that was a repeat
    for cue in cues:
        lines = [line for line in cue.text.split("\n") if plain(line)]
        again = bool(lines) and plain(lines[0]) == shown and not _INLINE_TIME.search(lines[0])
        timed = any(map(_INLINE_TIME.search, lines))
        repeat = again and len(lines) == 1 and before is not None and _is_brief(cue, before)
        if not repeat:
            rolled = again and len(lines) > 1 and (timed or behind_repeat)
            kept.append(replace(cue, text="\n".join(lines[1:])) if rolled else cue)
        before, behind_repeat = cue, repeat
        shown = plain(lines[-1]) if lines else ""
    return kept


def _is_brief(cue: Cue, before: Cue) -> bool:
    """Whether a cue follows at once and is too short for anything to be said in it."""
    most_s = _LONGEST_REPEAT_S + _ROUNDING_S
    return abs(cue.start_s - before.end_s) <= most_s and 0 <= cue.end_s - cue.start_s <= most_s
