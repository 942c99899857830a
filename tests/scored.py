"""Pairs of texts as they are scored: what was said, and what was heard.

scored(("en gammal bro", "en gamla bro"), language="sv")[0].words.errors     # 1
"""

from __future__ import annotations

from whispertune.score.wer import UtteranceScore, score


def scored(*texts: tuple[str, str], language: str = "sv") -> list[UtteranceScore]:
    """Each pair with its score, by the names u0, u1 and so on."""
    ids = [f"u{number}" for number in range(len(texts))]
    return score(ids, [said for said, _ in texts], [heard for _, heard in texts], language)[1]
