"""`mvm man`: writes the manual page of a command from its own help text, in the macros of man(7)."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

import click

from mvmnix import __version__
from mvmnix.errors import UsageError
from mvmnix.suggestion import did_you_mean

_PROGRAM: Final = "mvm"
#: Characters of what a command is, in a line.
_LONGEST: Final = 200


@click.command("man")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def man(context: click.Context, words: tuple[str, ...]) -> None:
    """Write the manual page of COMMAND, or of mvm itself, to standard output, as roff.

    To read one: mvm man image ls | man -l -. In a checkout, `make man` writes all of them to build/man.
    """
    click.echo(page(context.find_root().command, words), nl=False)


def commands(root: click.Command) -> Iterator[tuple[str, ...]]:
    """The words of each command and subcommand, those of `mvm` itself, which are none, left out."""
    context = click.Context(root, info_name=_PROGRAM)
    for name in root.list_commands(context) if isinstance(root, click.Group) else ():
        command = root.get_command(context, name) if isinstance(root, click.Group) else None
        yield (name,)
        if command is not None:
            yield from ((name, *words) for words in commands(command))


def context_of(root: click.Command, words: Sequence[str]) -> click.Context:
    """Return the context of the command or group with these words, none for the root. Raises UsageError."""
    context = click.Context(root, info_name=_PROGRAM, **root.context_settings)
    for word in words:
        group = context.command
        command = group.get_command(context, word) if isinstance(group, click.Group) else None
        if command is None:
            near = did_you_mean(word, group.list_commands(context) if isinstance(group, click.Group) else ())
            hint = f"{near}{context.command_path} --help lists them"
            raise UsageError(f"there is no command {' '.join((_PROGRAM, *words))!r}", hint=hint)
        context = click.Context(command, info_name=word, parent=context)
    return context


def page(root: click.Command, words: Sequence[str]) -> str:
    """Return a manual page in roff, the same for the same version. Raises UsageError for words of no command."""
    return "".join(f"{line}\n" for line in _lines(context_of(root, words), (_PROGRAM, *words)))


def _lines(context: click.Context, words: Sequence[str]) -> Iterator[str]:
    name, command = "-".join(words), context.command
    yield f'.TH "{_text(name.upper())}" "1" "" "mvm {_text(__version__)}" "mvm manual"'
    yield from (".SH NAME", f"{_text(name)} \\- {_text(command.get_short_help_str(_LONGEST))}")
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (".SH SYNOPSIS", f".B {_text(' '.join(words))}", _text(usage))
    yield ".SH DESCRIPTION"
    for paragraph in re.split(r"\n\s*\n", (command.help or "").strip()):
        yield from (".PP", _text(" ".join(paragraph.split())))
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            about = "" if found is None else found.get_short_help_str(_LONGEST)
            yield from (".TP", f".BR {_text('-'.join((*words, each)))} (1)", _text(about))
    yield ".SH OPTIONS"
    options = (it for it in command.get_params(context) if isinstance(it, click.Option))
    for option, about in filter(None, (it.get_help_record(context) for it in options)):
        yield from (".TP", f".B {_text(option)}", _text(about))
    if examples := [line.strip() for line in (command.epilog or "").splitlines() if line.startswith("  ")]:
        yield ".SH EXAMPLES"
        for line in examples:
            yield from (".PP", f".B {_text(line)}")
    if len(words) > 1:
        above = ("-".join(words[:count]) for count in range(1, len(words)))
        yield from (".SH SEE ALSO", ".BR " + ", ".join(f"{_text(each)} (1)" for each in above))


def _text(text: str) -> str:
    """For a line of roff: nothing in it is an escape, a macro or a hyphen that may be broken (groff_man(7))."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    escaped = "".join(c if c.isascii() else rf"\[u{ord(c):04X}]" for c in escaped)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
