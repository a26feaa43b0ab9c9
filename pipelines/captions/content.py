"""Check the sentences in which a vision-language model describes the content of a clip."""

import re
import unicodedata
from collections import Counter

COMMON = frozenset(("a", "an", "the", "is", "are", "and", "with", "in", "on", "of", "his", "her", "their"))
"""An English description contains at least two of these words, or one if it is short."""
SHORT = 6  # words
MAX_FOREIGN = 0.1
"""Largest share of letters that are not Latin."""
PHRASE, MAX_REPEATS = 4, 2
"""A phrase of so many words may stand so often in a description."""

_MOVE = (
    r"(?:pan|tilt|roll|zoom|truck|arc|orbit|circle|track|follow|move|turn|rotate|push|pull|travel|shake|pedestal)"
    r"(?:s|es|ed|d|ing|ning|ping)?|doll(?:y|ies|ied|ying)"
)
_CAMERA_MOVES = re.compile(
    rf"(?:\b(?:the|this) |^|[.!?;] )(?:camera|shot|view|viewpoint|lens)\b(?: \w+ly| then| is| stays| holds)*"
    rf" (?:{_MOVE}|static|still|stationary|fixed|steady)\b"
    r"|\b(?:pans|panning|zooms?|zooming|dolly|dollies|dollying|trucking) (?:to the )?(?:left|right|up|down|in|out)\b"
    r"|\b(?:tracking|panning|zooming|dolly|static|handheld|hand-held) shot\b|\b(?:panning|zooming|static) camera\b",
    re.IGNORECASE,
)


def check_content(text: str) -> None:
    """Raise `ValueError` if a description is not in English, repeats itself, or names a motion of the camera.

    The camera sentence is composed from the terms alone; a second statement about it in the same caption could
    contradict it. A person with a camera may be described.
    """
    letters = [letter for letter in text if letter.isalpha()]
    foreign = sum(not unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    if not letters or foreign > MAX_FOREIGN * len(letters):
        raise ValueError('"content" must be in English')
    words = re.findall(r"[^\W\d_]+", text.lower())
    if sum(word in COMMON for word in words) < (2 if len(words) > SHORT else 1):
        raise ValueError('"content" must be in English')
    phrases = Counter(zip(*(words[start:] for start in range(PHRASE)), strict=False))
    if phrases and max(phrases.values()) > MAX_REPEATS:
        raise ValueError(f'"content" repeats "{" ".join(phrases.most_common(1)[0][0])}"')
    if move := _CAMERA_MOVES.search(text):
        raise ValueError(f'"content" must not describe the camera, as in "{move.group()}"')
