"""What is known of languages, in one place."""

from __future__ import annotations

# Written without spaces between words: text tokens get no leading space, and CER leads.
UNSPACED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "km", "yue"})
