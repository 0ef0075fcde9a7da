"""Options of command lines: numbers that float32 can hold, and one option for each field that a dataclass offers."""

import math

import click

SMALLEST, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # of float32, in which networks compute


def is_float32(number):
    """Whether a number is neither infinite nor NaN, and neither too large nor too small for float32."""
    return math.isfinite(number) and (number == 0 or SMALLEST <= abs(number) <= LARGEST)


class Finite:
    """Refuses infinity and NaN, which Python's float() takes, and what float32 would make of them or of 0."""

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not is_float32(number):
            self.fail(f"{value} is not a finite number that float32 can hold.", param, ctx)
        return number


class FiniteFloat(Finite, click.types.FloatParamType):
    """A number."""


class FiniteRange(Finite, click.FloatRange):
    """A number within a range."""


NUMBER = FiniteFloat()


def field_option(field, *name):
    """The option of a field made by `stylegan2_adamix.settings.option`; name: of the argument, the flag's by default.

    Its value is None where it is not given; the help shows the default that the dataclass then takes.
    """
    about, choices = field.metadata, field.metadata["choices"]
    kind = click.Choice(choices) if choices else {float: NUMBER, int: int, bool: bool}[field.type]
    shown = field.default if about["shown"] is None else about["shown"]
    text = f"{about['help']}  [default: {f'{shown:g}' if isinstance(shown, float) else shown}]"
    return click.option(about["flag"], *name, type=kind, metavar=about["metavar"], help=text)
