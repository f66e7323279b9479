"""Errors that say in one sentence which input cannot be used."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used; the message says what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Return the sentence alone, so that IPython shows no traceback."""
        return [f"{type(self).__name__}: {self}"]


def check_name(name: str, valid: Iterable[str], what: str) -> str:
    """Return a name that is valid, and suggest the nearest valid one otherwise.

    Parameters
    ----------
    name
        Name to check.
    valid
        Names that are allowed.
    what
        What is named, for the message, such as "data set".

    Returns
    -------
    str
        ``name``, unchanged.

    Raises
    ------
    InputError
        If ``name`` is not one of ``valid``.

    Examples
    --------
    >>> check_name("mnist", ["mnist", "emnist"], "data set")
    'mnist'
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
