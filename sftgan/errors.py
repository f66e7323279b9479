"""One clear sentence for input that cannot be used."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used. The message says what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        """IPython asks for this: a notebook shows the sentence and no traceback."""
        return [f"{type(self).__name__}: {self}"]


def check_name(name: str, valid: Iterable[str], what: str) -> str:
    """Return `name` if it is one of `valid`, else raise with the nearest valid name.

    >>> check_name("mnits", ["mnist", "emnist"], "data set")
    Traceback (most recent call last):
    sftgan.errors.InputError: unknown data set 'mnits': did you mean 'mnist'? (valid: mnist, emnist)
    """
    valid = [str(v) for v in valid]
    if name in valid:
        return name
    near = difflib.get_close_matches(str(name), valid, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"unknown {what} {name!r}: {hint}(valid: {', '.join(valid)})")
