from mvmnix.cli.commands.completion import answer_shell

__all__ = ["answer_shell"]
