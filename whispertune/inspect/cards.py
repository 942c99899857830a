"""A sample in the report: why it is shown, what its text says, its player, its spectrogram, its figures.

cards([Card(clip, why="longest", tokens=41)])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from whispertune.data.segments import Segment, name_of
from whispertune.drawing.markup import Markup, data_uri, element, join
from whispertune.inspect.samples import CLIP_S, Clip

ALT_CHARACTERS = 60


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
        _sound(clip) if clip.audio else element("p", f"It cannot be played: {clip.trouble}", class_="facts"),
        element("p", " · ".join(_facts(card)), class_="facts"),
        element("p", element("bdi", _place(segment)), class_="facts"),
        class_="card",
    )


def _sound(clip: Clip) -> Markup:
    short = clip.segment.text[:ALT_CHARACTERS]
    seconds = min(clip.segment.duration_s, CLIP_S)
    player = element(
        "audio",
        controls=True,
        preload="metadata",
        src=data_uri(clip.kind, clip.audio),
        aria_label=f"Audio of: {short}",
    )
    picture = element(
        "img",
        src=data_uri("image/png", clip.spectrogram),
        alt=f"Spectrogram of {seconds:.1f} s, 0 to 8 kHz: {short}",
    )
    ends = f"{seconds:.2f} s"
    scale = element("figcaption", element("span", "0 s"), element("span", "0 to 8 kHz, mel"), element("span", ends))
    return join(player, element("figure", picture, scale, class_="spectrogram"))


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


def _place(segment: Segment) -> str:
    spoken = f", {segment.speaker}" if segment.speaker else ""
    start = f", from {segment.start_s:.2f} s" if segment.start_s else ""
    return f"{segment.id}{spoken}, in {name_of(segment.recording)}{start}"
