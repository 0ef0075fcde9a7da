"""Command lines: options of every command, options that several commands share, numbers in float32's range."""

import math

import click

from dnnlib.util import say

SMALLEST, LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127  # normal numbers of float32


def is_float32(number):
    """Whether a number is neither infinite nor NaN, and neither too large nor too small for float32."""
    return math.isfinite(number) and (number == 0 or SMALLEST <= abs(number) <= LARGEST)


class Finite:
    """Rejects infinity and NaN, which Python's float() accepts, and numbers that float32 rounds to infinity or to 0."""

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not is_float32(number):
            self.fail(f"{value} is not a finite float32 number.", param, ctx)
        return number


class FiniteFloat(Finite, click.types.FloatParamType):
    """A number."""


class FiniteRange(Finite, click.FloatRange):
    """A number within a range."""


NUMBER = FiniteFloat()


def field_option(field, *name):
    """The option for a field made by `stylegan2_adamix.settings.option`. name: of the argument (default: the flag's).

    Its value is None if it is not given; the help shows the dataclass's default.
    """
    about, choices = field.metadata, field.metadata["choices"]
    kind = click.Choice(choices) if choices else {float: NUMBER, int: int, bool: bool}[field.type]
    shown = field.default if about["shown"] is None else about["shown"]
    text = f"{about['help']}  [default: {f'{shown:g}' if isinstance(shown, float) else shown}]"
    return click.option(about["flag"], *name, type=kind, metavar=about["metavar"], help=text)


MAX_SEED = 2**32 - 1  # of numpy.random.RandomState


def shared(*names, **settings):
    """A function that makes this option. It takes a name for the argument, and settings that replace these."""
    return lambda *name, **changes: click.option(*names, *name, **settings | changes)


device = shared(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True,
    help="Where to compute. auto: cuda, else mps, else cpu.",
)  # fmt: skip
seed = shared("--seed", type=click.IntRange(0, MAX_SEED), metavar="N", default=0, show_default=True)


class Command(click.Command):
    """A command with -h and --version. `groups`: {title: names of options}, the sections of its help."""

    def __init__(self, *args, groups=None, **settings):
        settings["context_settings"] = {
            "help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True,
        }  # fmt: skip
        super().__init__(*args, **settings)
        self.groups = groups or {}
        self.params.append(
            click.Option(
                ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=say_version,
                help="Print the version and the commit, and stop.",
            )
        )  # fmt: skip

    def format_options(self, ctx, formatter):
        given = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        listed = {option.name: option.get_help_record(ctx) for option in given}
        groups = {title: [listed.pop(name) for name in names] for title, names in self.groups.items()}
        groups["Other" if groups else "Options"] = list(listed.values())
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl([record for record in records if record])  # hidden ones have none


def command(groups=None):
    """Decorator: a `Command`. groups: {title: {name: decorator that adds an option}}, in the order of the help."""
    groups = groups or {}

    def decorate(function):
        for option in reversed([option for group in groups.values() for option in group.values()]):
            function = option(function)
        return click.command(cls=Command, groups=groups)(function)

    return decorate


def say_version(context, parameter, asked):
    """What --version does."""
    if asked:
        from dnnlib.version import program

        say(f"stylegan2-adamix {program()}")
        context.exit()
