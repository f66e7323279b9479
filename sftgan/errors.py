"""Errors that say in one sentence which input cannot be used."""

import difflib
import importlib.util
from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used; the message says what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Return the sentence alone, so that IPython shows no traceback."""
        return [f"{type(self).__name__}: {self}"]


def require(modules: Iterable[str], extra: str) -> None:
    """Check that the modules of an extra of the package are installed.

    Parameters
    ----------
    modules
        Names of modules to import.
    extra
        Extra of the package that brings them.

    Raises
    ------
    InputError
        If one of them is missing.

    Examples
    --------
    >>> require(["json"], "book")
    >>> require(["no_such_module"], "book")
    Traceback (most recent call last):
    sftgan.errors.InputError: no_such_module is not installed: run `pip install "sftgan[book]"`.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise InputError(f'{", ".join(missing)} {verb} not installed: run `pip install "sftgan[{extra}]"`.')


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
