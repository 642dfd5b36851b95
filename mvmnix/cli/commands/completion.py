"""`mvm completion SHELL`, and the answers to a shell that asks: commands, options, files, and names of what is kept.

An answer changes nothing: no machine is put in order, nothing is made or verified. What fails is left out, silently.

The scripts are mvm's own, and take answers as click writes them. Click's own take words apart, or replace too much of
them, at `:` and `=`.
"""

import io
from contextlib import redirect_stderr, suppress
from typing import Final

import click
from click.shell_completion import get_completion_class

from mvmnix.cli.completers import COMPLETE

_PROGRAM: Final = "mvm"
#: bash ends words at `:`, `=` and `@` (COMP_WORDBREAKS), and replaces what follows. COMP_WORDS has all the pieces, and
#: COMP_LINE shows which of them stand together; mvm is asked about whole words, up to the cursor.
_BASH: Final = r"""
_mvm_completion() {
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT} before='' piece at type value
    local words=()
    for (( at = 0; at <= COMP_CWORD; at++ )); do
        piece=${COMP_WORDS[at]}
        if (( at )) && [[ $line != [[:blank:]]* && ( $piece == [:=@]* || ${words[-1]} == *[:=@] ) ]]; then
            (( at < COMP_CWORD )) || piece=$line
            words[-1]+=$piece
            before=${words[-1]%"$2"}
        else
            line=${line#"${line%%[![:blank:]]*}"}
            (( at < COMP_CWORD )) || piece=$line
            words+=("$piece")
            before=''
        fi
        line=${line#"$piece"}
    done
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done < <(COMP_WORDS="${words[*]}" COMP_CWORD=$(( ${#words[@]} - 1 )) _MVM_COMPLETE=bash_complete "$1")
}

complete -o nosort -F _mvm_completion mvm
"""

#: A file _mvm in fpath is the body of a function of that name, at each call. Of `--option=VALUE` VALUE is completed,
#: and the option left as it is; so is the `path:` before a directory.
_ZSH: Final = r"""#compdef mvm

_mvm_completion() {
    local -a response plain described
    local line="${words[1,CURRENT-1]} $PREFIX" kind value help
    (( $+commands[mvm] )) || return 1
    response=("${(@f)$(COMP_WORDS=$line COMP_CWORD=$((CURRENT - 1)) _MVM_COMPLETE=zsh_complete mvm)}")
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    for kind value help in "${(@)response}"; do
        case $kind in
            dir) compset -P 'path:'; _path_files -/ ;;
            file) _path_files ;;
            plain) if [[ $help == _ ]]; then plain+=("$value"); else described+=("$value:$help"); fi ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described
    (( $#plain )) && compadd -V unsorted -a plain
}

if [[ $funcstack[1] == _mvm ]]; then
    _mvm_completion "$@"
else
    compdef _mvm_completion mvm
fi
"""

_FISH: Final = r"""
function _mvm_completion
    set -l line (commandline -cp)
    set -l word (commandline -ct)
    set -l option (string match -r -- '^--[a-z-]+=' "$word")
    for answer in (env _MVM_COMPLETE=fish_complete COMP_WORDS="$line" COMP_CWORD="$word" mvm)
        set -l found (string split -m 1 , -- $answer)
        switch $found[1]
            case dir
                __fish_complete_directories $found[2] | string replace -r -- '^' "$option"
            case file
                __fish_complete_path $found[2] | string replace -r -- '^' "$option"
            case plain
                printf '%s\n' "$option$found[2]"
        end
    end
end

complete --no-files --command mvm --arguments '(_mvm_completion)'
"""

#: By the name of a shell.
_SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command()
@click.argument("shell", type=click.Choice(list(_SCRIPTS)))
def completion(shell: str) -> None:
    """Print a script by which SHELL completes mvm's commands, options, machines, images and a flake's attributes.

    bash: eval "$(mvm completion bash)", or write it to ~/.local/share/bash-completion/completions/mvm. zsh: write it to
    a file _mvm in a directory of fpath. fish: write it to ~/.config/fish/completions/mvm.fish.
    """
    click.echo(_SCRIPTS[shell], nl=False)


def answer_shell(cli: click.Command, asked: str) -> None:
    """Print completions as click formats them for a shell; `asked` is COMPLETE's value, such as bash_complete."""
    shell, _, instruction = asked.partition("_")
    found = get_completion_class(shell) if instruction == "complete" else None
    if found is None:
        return
    with (
        redirect_stderr(io.StringIO()),
        suppress(Exception, SystemExit, KeyboardInterrupt),
    ):  # the shell would show what fails
        click.echo(found(cli, {}, _PROGRAM, COMPLETE).complete().encode())
