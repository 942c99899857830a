"""What is known of languages, in one place."""

from __future__ import annotations

import re
from typing import Final

# Written without spaces between words: text tokens get no leading space, and CER leads.
UNSPACED_LANGUAGES: Final = frozenset({"zh", "ja", "th", "lo", "my", "km", "yue"})

# Characters of scripts that write words without spaces between them, for the [...] of a regular expression:
# Thai and Lao, Burmese, Khmer, CJK radicals and marks, kana, ideographs, halfwidth kana, rarer ideographs.
UNSPACED_SCRIPTS: Final = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u1000-\u103f\u1050-\u108f\uaa60-\uaa7f\u1780-\u17d3"
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u3096\u3099-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)

_UNSPACED_CHARACTER: Final = re.compile(f"[{UNSPACED_SCRIPTS}]")


def is_unspaced(character: str) -> bool:
    """Whether the character is of a script that writes words without spaces between them."""
    return _UNSPACED_CHARACTER.match(character) is not None
