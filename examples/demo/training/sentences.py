"""Sentences for the training: many different ones made from a few lists."""

from __future__ import annotations

import random

_SUBJECTS = [
    "the baker",
    "my father",
    "a young woman",
    "the old fisherman",
    "our neighbour",
    "the queen",
    "her brother",
    "a quiet boy",
    "the whole family",
    "George",
    "Barbara",
    "Philip",
    "the visitor",
    "some people",
    "the woman from Vienna",
    "every child",
    "the judge",
    "a famous singer",
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
_VERBS = [
    "watched",
    "wanted to buy",
    "carefully painted",
    "never found",
    "brought back",
    "was looking for",
    "would rather choose",
    "pushed away",
    "quickly measured",
    "has always loved",
    "might have forgotten",
    "should wash",
    "could hear",
    "threw",
    "borrowed",
    "finally understood",
    "wove",
    "caught",
    "must not touch",
    "shared",
    "thought about",
    "opened",
    "refused to leave",
]
_OBJECTS = [
    "the blue boat",
    "five purple flowers",
    "a heavy box of books",
    "the wooden bridge",
    "fresh bread and butter",
    "the yellow umbrella",
    "a map of the northern valley",
    "warm soup with garlic",
    "the church by the river",
    "a pair of good shoes",
    "the usual thing",
    "every single page",
    "three thousand pounds",
    "the vision of a better world",
    "an orange and a pear",
    "the smooth round stones",
    "his favourite azure jacket",
    "the oyster shell",
    "a joyful noise",
    "the moon above the water",
    "some cheese and a jug of juice",
    "the ship's measure",
    "both mouths of the cave",
]
_TIMES = [
    "before the morning",
    "on a foggy afternoon in June",
    "at half past eight",
    "when the rain began",
    "without saying a word",
    "for the very first time",
    "in the middle of the village",
    "as if by magic",
    "over and over again",
    "while everybody slept",
    "near the edge of the forest",
    "after a long journey",
    "with great pleasure",
    "because it was there",
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
    "Where are we going?",
    "Oh, what a beautiful view!",
    "Be careful!",
    "One, two, three, four, five, six, seven, eight.",
    "Well, perhaps.",
    "My, my, my.",
    "Peter Piper picked a peck of pickled peppers.",
    "She sells sea shells by the sea shore.",
    "How much wood would a woodchuck chuck?",
]


def sentence(rng: random.Random) -> str:
    """Return one to three sentences, three to seven seconds of speech."""
    if rng.random() < 0.2:
        return " ".join(rng.choice(_SHORT) for _ in range(rng.randint(1, 3)))
    subject, verb, what, when = (rng.choice(x) for x in (_SUBJECTS, _VERBS, _OBJECTS, _TIMES))
    comma = "," if rng.random() < 0.4 else ""
    order = rng.random()
    if order < 0.3:
        text = f"{when}, {subject} {verb} {what}."
    elif order < 0.8:
        text = f"{subject} {verb} {what}{comma} {when}."
    else:
        text = f"{subject} {verb} {what}; {rng.choice(_SHORT)}"
    return text[0].upper() + text[1:]
