"""Wordings of camera terms in prompts, and the terms that a prompt asks for.

`WORDINGS` is chosen from how published prompts word each move (table with sources in `pipelines/captions/README.md`):
the first wording has the everyday words of the prompt guides of HunyuanVideo-1.5 and Wan2.2, the second the film terms
of CameraBench and SpatialVID, the third other words of these. Captions are composed from it, and `asked_steps` reads it
back, together with more ways in which people write the same.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

WORDINGS: dict[str, tuple[str, str, str]] = {
    "static": ("holds still", "remains static", "stays still"),
    "shake": ("shakes", "shakes", "trembles"),
    "pan_left": ("pans to the left", "pans left", "turns to the left"),
    "pan_right": ("pans to the right", "pans right", "turns to the right"),
    "tilt_up": ("tilts up", "tilts up", "tilts upward"),
    "tilt_down": ("tilts down", "tilts down", "tilts downward"),
    "roll_cw": ("rolls clockwise", "rolls clockwise", "rotates clockwise"),
    "roll_ccw": ("rolls counterclockwise", "rolls counterclockwise", "rotates counterclockwise"),
    "dolly_in": ("moves forward", "dollies in", "pushes in"),
    "dolly_out": ("moves back", "dollies out", "pulls back"),
    "truck_left": ("moves to the left", "trucks left", "moves sideways to the left"),
    "truck_right": ("moves to the right", "trucks right", "moves sideways to the right"),
    "pedestal_up": ("moves straight up", "pedestals up", "rises"),
    "pedestal_down": ("moves straight down", "pedestals down", "descends"),
    "arc_left": (
        "circles to the left around the subject",
        "arcs left around the subject",
        "orbits to the left around the subject",
    ),
    "arc_right": (
        "circles to the right around the subject",
        "arcs right around the subject",
        "orbits to the right around the subject",
    ),
    "zoom_in": ("zooms in", "zooms in", "zooms in closer"),
    "zoom_out": ("zooms out", "zooms out", "zooms out wider"),
    "follow": ("follows the subject", "tracks the subject", "moves along with the subject"),
}
"""Camera term -> its verb phrases, one for each wording of a caption."""
COUNT = 3
"""Number of wordings."""


class Asked(NamedTuple):
    """A camera term with its speed (slow, medium, fast), as a prompt words it."""

    term: str
    speed: str


def _way(*ways: str) -> str:
    return rf"(?:(?:to(?:wards?)? )?(?:the |its )?(?:{'|'.join(ways)})(?: (?:side|direction))?)\b"


_WAYS = {
    "left": rf"(?:from (?:the )?right to (?:the )?left|{_way('left(?:wards?)?')})",
    "right": rf"(?:from (?:the )?left to (?:the )?right|{_way('right(?:wards?)?')})",
    "up": _way("up(?:wards?)?"),
    "down": _way("down(?:wards?)?"),
    "in": r"(?:in(?:wards?)?(?! an?\b)|forwards?|closer|nearer|towards? (?:the|a|him|her|them) ?\w*)\b",
    "out": r"(?:out(?:wards?)?|back(?:wards?)?|away)\b",
    "cw": r"(?<!counter)(?<!counter-)(?<!anti)(?<!anti-)clockwise\b",
    "ccw": r"(?:counter|anti)-?clockwise\b",
}
_SUBJECT = r"(?:the|a|an|its|his|her|their) \w+|him|her|them|it"
_TRAVELS = r"mov(?:es?|ing|ed)|travel(?:s|l?ing)?|glid(?:es?|ing)|slid(?:es?|ing)|shift(?:s|ing)?|tracks?|tracking"
_VERBS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("zoom", r"zoom(?:s|ing|ed)? {way}(?: (?:closer|wider))?", ("in", "out")),
    ("roll", r"(?:roll(?:s|ing|ed)?|rotat(?:es?|ing)|spin(?:s|ning)?)(?: in a)? {way}(?: direction)?", ("cw", "ccw")),
    ("pan", r"(?:pan(?:s|ning|ned)?|turn(?:s|ing)?|rotat(?:es?|ing)|swivel(?:s|ing)?) {way}", ("left", "right")),
    ("tilt", r"(?:tilt(?:s|ing|ed)?|pan(?:s|ning)?) {way}", ("up", "down")),
    (
        "truck",
        rf"(?:truck(?:s|ing)?|{_TRAVELS})(?: sideways| laterally| horizontally)? {{way}}",
        ("left", "right"),
    ),
    (
        "pedestal",
        rf"(?:pedestal(?:s|ing)?|crane(?:s|ing)?|booms?|{_TRAVELS})(?: straight| vertically)? {{way}}",
        ("up", "down"),
    ),
    ("dolly", rf"(?:doll(?:y|ies|ying)|push(?:es|ing)?|pull(?:s|ing)?|{_TRAVELS}) {{way}}", ("in", "out")),
)
_ROUND = r"(?:arc(?:s|ing)?|circl(?:es?|ing)|orbit(?:s|ing)?|mov(?:es?|ing) in an arc|revolv(?:es?|ing))"


def _patterns() -> Iterator[tuple[str, str]]:
    """Yield terms with regular expressions of their verb phrases; earlier ones go first where several match."""
    for side, turn in (("left", "cw"), ("right", "ccw")):  # seen from above
        way = rf"(?:{_WAYS[side]}|{_WAYS[turn]})"
        yield f"arc_{side}", rf"{_ROUND} {way}(?: around (?:{_SUBJECT}))?"
        yield f"arc_{side}", rf"(?:{_ROUND}|mov(?:es?|ing)) around (?:{_SUBJECT}) {way}"
        yield f"arc_{side}", rf"mov(?:es?|ing) {way} around (?:{_SUBJECT})"
        yield f"arc_{side}", rf"mov(?:es?|ing) in an? (?:\w+ )?{_WAYS[turn]} (?:arc|circle|orbit)"
    yield "follow", rf"(?:follow(?:s|ing)?|track(?:s|ing)?)(?: along with)? (?:{_SUBJECT})"
    yield "follow", rf"(?:mov(?:es?|ing)|travel(?:s|ing)?)(?: along)? with (?:{_SUBJECT})"
    for move, pattern, ways in _VERBS:
        for way in ways:
            yield f"{move}_{way}", pattern.format(way=_WAYS[way])
    yield "pedestal_up", r"(?:ris(?:es?|ing)|ascend(?:s|ing)?|cranes up)\b"
    yield "pedestal_down", r"(?:descend(?:s|ing)?|lower(?:s|ing)?)\b"
    yield "shake", r"(?:shak(?:es?|ing|y)|trembl(?:es?|ing)|hand-?held shake|hand-?held)\b"
    still = r"(?:static|still|stationary|fixed|motionless|locked(?:[- ]off)?)"
    yield (
        "static",
        rf"(?:(?:is|remains?|stays?|holds?|stands?) (?:\w+ly )?{still}|{still} (?:camera|shot)|does not move)\b",
    )


_SLOW, _FAST = r"slowly|slow|slightly|slight|gently|gradually", r"quickly|quick|fast|rapidly|swiftly|strongly|strong"
_ADVERB = rf"(?:{_SLOW}|{_FAST})"
_TERMS = [
    (term, re.compile(rf"(?:\b(?P<before>{_ADVERB}) )?\b{pattern}(?: (?P<after>{_ADVERB})\b)?"))
    for term, pattern in _patterns()
]
_SENTENCE = re.compile(r"[.!?;\n]+")
_THEN = re.compile(r",? (?:and )?(?:then|afterwards|before) ")
_ASIDE = re.compile(
    r"\b(?:(?:without|not|instead of|rather than)\b(?! move)|(?:as|while) (?!\w+ing)|to (?:show|reveal|capture|focus)"
    r"|showing|revealing|capturing|who|which|of (?:the|an?)\b).*"
)
"""What is denied, and what is said of others than the camera."""
_OF_CAMERA = re.compile(
    r"\b(?:the|this) (?:[\w-]+ )?(?:camera|lens)\b|^\s*(?:an? )?(?:[\w-]+ )?camera\b"
    rf"|\b(?:static|tracking|hand-?held|{_ADVERB}) shot\b"
)
"""Where a sentence begins to be about the camera that films; a person may hold one."""


def asked_steps(prompt: str) -> tuple[frozenset[Asked], ...]:
    """Return the camera moves that a prompt asks for: steps in order of time, each of simultaneous terms.

    Only sentences about the camera are read. Speeds that are not worded are medium, that of `static` is slow. Empty if
    the prompt says nothing of the camera: unknown, not static.
    """
    steps: list[frozenset[Asked]] = []
    for sentence in _SENTENCE.split(prompt.lower()):
        if about := _OF_CAMERA.search(sentence):
            told = [_terms(part) for part in _THEN.split(sentence[about.start() :])]
            steps += [step for step in told if step]
    return tuple(steps)


def asked_terms(prompt: str) -> frozenset[str]:
    """Return the camera terms that a prompt asks for, without order and speeds."""
    return frozenset(asked.term for step in asked_steps(prompt) for asked in step)


def _terms(text: str) -> frozenset[Asked]:
    text, found = _ASIDE.sub("", text), set[Asked]()
    for term, pattern in _TERMS:
        while match := pattern.search(text):
            found.add(Asked(term, _speed(term, match["before"] or match["after"])))
            text = f"{text[: match.start()]} | {text[match.end() :]}"
    return frozenset(found)


def _speed(term: str, adverb: str | None) -> str:
    if term == "static" or (adverb and re.fullmatch(_SLOW, adverb)):
        return "slow"
    return "fast" if adverb else "medium"
