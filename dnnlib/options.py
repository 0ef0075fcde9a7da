"""Options of command lines: numbers that are finite, and one option for each field that a dataclass offers."""

import math

import click


class Finite:
    """Refuses infinity and NaN, which Python's float() takes."""

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class FiniteFloat(Finite, click.types.FloatParamType):
    """A number."""


class FiniteRange(Finite, click.FloatRange):
    """A number within a range."""


NUMBER = FiniteFloat()


def field_option(field, *name, shown=None):
    """The option of a field made by `stylegan2_adamix.settings.option`; name: of the argument, the flag's by default.

    Its value is None where it is not given; the help shows the default that the dataclass then takes, or `shown` where
    the program takes another.
    """
    about, choices = field.metadata, field.metadata["choices"]
    kind = click.Choice(choices) if choices else {float: NUMBER, int: int, bool: bool}[field.type]
    shown = next(default for default in (shown, about["shown"], field.default) if default is not None)
    text = f"{about['help']}  [default: {f'{shown:g}' if isinstance(shown, float) else shown}]"
    return click.option(about["flag"], *name, type=kind, metavar=about["metavar"], help=text)
