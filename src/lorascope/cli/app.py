"""The commands together, and what a mistake looks like: one line on stderr, exit code 2."""

import sys
from typing import Annotated, NoReturn

import typer

from .._version import __version__
from ..errors import LorascopeError
from .demo import demo
from .extract import extract
from .figures import figures
from .glue import glue
from .ranks import ranks
from .report import report
from .run import run
from .verify import verify

__all__ = ["app", "main"]

app = typer.Typer(
    name="lorascope",
    help="What can LoRA express? The rank a frozen model needs, the adapters, and how far off they are.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(extract)
app.command()(figures)
app.command()(glue)
app.command()(ranks)
app.command()(report)
app.command()(run)
app.command()(verify)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lorascope {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command the arguments name; without any, print the help.

    Exit codes: 0 done, 1 the result falls short, 2 the user's input is wrong, 130 interrupted.
    """
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="lorascope", standalone_mode=False)
    except LorascopeError as error:
        _fail(str(error))
    except typer.TyperException as error:
        message = error.format_message()
        _fail(f"{message}{'' if message.endswith(('.', '?')) else '.'} See 'lorascope --help'.")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> NoReturn:
    typer.echo(f"lorascope: {' '.join(message.split())}", err=True)
    sys.exit(2)
