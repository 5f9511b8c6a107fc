"""Numbers with a unit: what is the same amount, said as exactly.

- A unit has one spelling here for all of its own. A symbol has its case, since that tells: ``mW``
  and ``MW``, ``Mb`` and ``MB``. A word has none.
- Only a power of ten is worked out, on the digits as they stand: so a digit more stays a digit
  more. Hours are not made minutes, nor miles kilometers.
- A symbol that stands for several things, as ``$``, ``°`` or ``t``, is none of these.
"""

import re
from decimal import Decimal

_QUANTITY = re.compile(
    r"(?P<sign>[-\u2212+]?)(?P<number>(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?) ?(?P<unit>\D{1,20})"
)
_PREFIXES = {
    "n": (-9, "nano"),
    "µ": (-6, "micro"),
    "m": (-3, "milli"),
    "c": (-2, "centi"),
    "k": (3, "kilo"),
    "M": (6, "mega"),
    "G": (9, "giga"),
    "T": (12, "tera"),
}
#: Symbols, the words for each, and the prefixes that are in use with it.
_SCALED = (
    ("m", "meter meters metre metres", "nµmck"),
    ("g", "gram grams", "µmk"),
    ("l L", "liter liters litre litres", "mc"),
    ("s", "second seconds", "nµm"),
    ("W", "watt watts", "mkMGT"),
    ("Wh", "", "kMGT"),
    ("V", "volt volts", "mk"),
    ("A", "ampere amperes", "mk"),
    ("Hz", "hertz", "kMGT"),
)
#: Units of which only the spelling differs.
_SPELLED = (
    ("min", "minute minutes"),
    ("h", "hour hours"),
    ("d", "day days"),
    ("", "week weeks"),
    ("", "month months"),
    ("", "year years"),
    ("mi", "mile miles"),
    ("km/h", "kph"),
    ("°C", "celsius"),
    ("°F", "fahrenheit"),
    ("K", "kelvin"),
    ("%", "percent"),
    ("€ EUR", "euro euros"),
    ("£ GBP", ""),
    ("USD US$", ""),
    # What a kilobyte is worth is not agreed on: 1000 or 1024.
    ("B", "byte bytes"),
    ("kB", "kilobyte kilobytes"),
    ("MB", "megabyte megabytes"),
    ("GB", "gigabyte gigabytes"),
    ("TB", "terabyte terabytes"),
)


def _known() -> tuple[dict[str, tuple[str, int]], dict[str, tuple[str, int]]]:
    """Return the units by symbol and by word: each with what it is worth, as a power of ten."""
    symbols: dict[str, tuple[str, int]] = {}
    words: dict[str, tuple[str, int]] = {}
    for marks, spelled, prefixes in _SCALED:
        base = marks.split()[0]
        for prefix in ("", *prefixes):
            power, name = _PREFIXES.get(prefix, (0, ""))
            symbols |= {prefix + mark: (base, power) for mark in marks.split()}
            words |= {name + word: (base, power) for word in spelled.split()}
    for marks, spelled in _SPELLED:
        base = (marks or spelled).split()[0]
        symbols |= dict.fromkeys(marks.split(), (base, 0))
        words |= dict.fromkeys(spelled.split(), (base, 0))
    return symbols, words


_SYMBOLS, _WORDS = _known()


CASED = frozenset(
    (prefix + unit).lower()
    for prefix in ("", *"pnµmckMGT")
    for unit in (
        "m",
        "g",
        "l",
        "s",
        "w",
        "wh",
        "v",
        "a",
        "hz",
        "b",
        "bit",
        "j",
        "n",
        "pa",
        "k",
        "f",
    )
)
"""Symbols, without case, that are another unit with another case: after a number it is kept."""


def quantity(text: str) -> str | None:
    """Return a number with a unit in its canonical form; None where it is none that is known."""
    found = _QUANTITY.fullmatch(text)
    if found is None:
        return None
    name = found["unit"].replace("\u03bc", "µ")  # Greek mu, for the sign of micro
    unit = _SYMBOLS.get(name) or _WORDS.get(name.lower())
    if unit is None:
        return None
    base, power = unit
    sign = "-" if found["sign"] in ("-", "\u2212") else ""
    _, digits, exponent = Decimal(found["number"]).as_tuple()
    # Digits and power apart, and not the number: 5 km claims less than 5000 m does.
    return f"{sign}{''.join(map(str, digits))}e{int(exponent) + power} {base}"
