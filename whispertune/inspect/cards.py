"""A sample in the report: why it is shown, what its text says, its player, its spectrogram, its figures.

cards([Card(clip, why="longest", tokens=41)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from whispertune.drawing.markup import Markup, element
from whispertune.evaluation.clips import CLIP_S, Clip, place, player


@dataclass(frozen=True, slots=True)
class Card:
    """A clip and what is said above it."""

    clip: Clip
    why: str = ""
    particulars: str = ""
    tokens: int | None = None


def cards(shown: Sequence[Card]) -> Markup:
    """The samples side by side, as wide as the screen allows."""
    return element("ol", *(_card(card) for card in shown), class_="cards")


def _card(card: Card) -> Markup:
    clip, segment = card.clip, card.clip.segment
    return element(
        "li",
        element("p", card.why, class_="why") if card.why else None,
        element("p", segment.text, class_="text", dir="auto", lang=segment.language),
        element("p", card.particulars, class_="facts", dir="auto") if card.particulars else None,
        player(clip),
        element("p", " · ".join(_facts(card)), class_="facts"),
        element("p", element("bdi", place(segment)), class_="facts"),
        class_="card",
    )


def _facts(card: Card) -> list[str]:
    segment, measures = card.clip.segment, card.clip.measures
    facts = [f"{segment.duration_s:.2f} s{f', cut to {CLIP_S:.0f} s' if card.clip.cut else ''}"]
    facts.append(f"{len(segment.text) / max(segment.duration_s, 0.001):.1f} characters a second")
    if card.tokens is not None:
        facts.append(f"{card.tokens:,} tokens")
    if measures is not None and isfinite(measures.level_db):
        facts.append(f"level {measures.level_db:.0f} dBFS".replace("-", "−"))
    if measures is not None and isfinite(measures.snr_db):
        facts.append(f"signal to noise {measures.snr_db:.0f} dB")
    if measures is not None and measures.clipped_share:
        facts.append(f"{measures.clipped_share:.1%} clipped")
    return facts
