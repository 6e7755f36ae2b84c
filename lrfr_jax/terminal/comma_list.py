"""Lists on the command line: words with commas between, and spaces where people put them."""

import argparse

from lrfr_jax.errors import UserError


def words(text: str) -> list[str]:
    """Returns the words of 'a,b' and of 'a, b'; nothing for an empty place between two commas."""
    return [word for word in map(str.strip, text.split(",")) if word]


def some_words(text: str, flag: str) -> list[str]:
    """Returns the words; `UserError` if there is none, which would be as if the flag were not there."""
    named = words(text)
    if not named:
        raise UserError(f"{flag} {text} names none: write names with commas between, as in a,b")
    return named


def one_word(text: str) -> str:
    """Reads an option that takes one name only, where others of its name take a list."""
    named = words(text)
    if len(named) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be one name here")
    return named[0]
