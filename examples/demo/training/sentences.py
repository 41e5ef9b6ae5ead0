"""Sentences to learn from: many different ones out of a few lists."""

from __future__ import annotations

import random

_WHO = [
    "the baker",
    "my father",
    "a young woman",
    "the old fisherman",
    "our neighbour",
    "the queen",
    "her brother",
    "a quiet boy",
    "\nthe whole family",
    "George",
    "Barbara",
    "Philip",
    "the visitor",
    "some people",
    "the woman from Vienna",
    "every child",
    "the judge",
    "\na famous singer",
    "Oliver and Maya",
    "the manager",
    "nobody",
    "the pilot",
    "we",
    "they",
    "you",
    "I",
    "a weathered shepherd",
    "Thomas",
]
_DOES = [
    "watched",
    "wanted to buy",
    "carefully painted",
    "never found",
    "brought back",
    "was looking for",
    "would rather choose",
    "\npushed away",
    "quickly measured",
    "has always loved",
    "might have forgotten",
    "should wash",
    "could hear",
    "threw",
    "borrowed",
    "\nfinally understood",
    "wove",
    "caught",
    "must not touch",
    "shared",
    "thought about",
    "opened",
    "refused to leave",
]
_WHAT = [
    "the blue boat",
    "five purple flowers",
    "a heavy box of books",
    "the wooden bridge",
    "fresh bread and butter",
    "\nthe yellow umbrella",
    "a map of the northern valley",
    "warm soup with garlic",
    "the church by the river",
    "\na pair of good shoes",
    "the usual thing",
    "every single page",
    "three thousand pounds",
    "the vision of a better world",
    "\nan orange and a pear",
    "the smooth round stones",
    "his favourite azure jacket",
    "the oyster shell",
    "a joyful noise",
    "\nthe moon above the water",
    "some cheese and a jug of juice",
    "the ship's measure",
    "both mouths of the cave",
]
_WHEN = [
    "before the morning",
    "on a foggy afternoon in June",
    "at half past eight",
    "when the rain began",
    "\nwithout saying a word",
    "for the very first time",
    "in the middle of the village",
    "as if by magic",
    "over and over again",
    "\nwhile everybody slept",
    "near the edge of the forest",
    "after a long journey",
    "with great pleasure",
    "\nbecause it was there",
    "through the open window",
    "every other Wednesday",
]
_SHORT = [
    "How do you do?",
    "Please wait a moment.",
    "Why not?",
    "Good evening, everybody.",
    "Yes, of course.",
    "No, thank you.",
    "\nWhere are we going?",
    "Oh, what a beautiful view!",
    "Be careful!",
    "One, two, three, four, five, six, seven, eight.",
    "\nWell, perhaps.",
    "My, my, my.",
    "Peter Piper picked a peck of pickled peppers.",
    "\nShe sells sea shells by the sea shore.",
    "How much wood would a woodchuck chuck?",
]


def sentence(rng: random.Random) -> str:
    """One to three sentences, three to seven seconds of speech."""
    if rng.random() < 0.2:
        return " ".join(rng.choice(_SHORT).strip() for _ in range(rng.randint(1, 3)))
    who, does, what, when = (rng.choice(x).strip() for x in (_WHO, _DOES, _WHAT, _WHEN))
    comma = "," if rng.random() < 0.4 else ""
    order = rng.random()
    if order < 0.3:
        text = f"{when}, {who} {does} {what}."
    elif order < 0.8:
        text = f"{who} {does} {what}{comma} {when}."
    else:
        text = f"{who} {does} {what}; {rng.choice(_SHORT).strip()}"
    return text[0].upper() + text[1:]
