"""The step of a workflow that verifies before a release: inputs from the environment, verdicts where people look.

action/action.yml runs it as `python -m mvmnix.cli.commands.verify_step`, with all inputs as one JSON object. What it
writes are strangers' strings, escaped for where they go: the summary is Markdown, the log is read by the runner for
commands.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import mvmnix
from mvmnix.errors import MvmnixError, UsageError
from mvmnix.formats.escaping import escape_markdown, escape_workflow_data, escape_workflow_log
from mvmnix.formats.strict import parse_json
from mvmnix.system.process import INHERITED_BY_USERS_PROGRAMS, environment, run

#: Inputs that are options of `mvm verify` by the same name.
OPTIONS: Final = (
    *("bundle", "key", "certificate-identity", "certificate-identity-regexp", "certificate-oidc-issuer"),
    *("certificate-oidc-issuer-regexp", "trusted-root", "policy", "type"),
    *("source-uri", "source-tag", "source-digest", "builder-id", "package"),
)
#: Default of each input in action.yml: an empty input was set, by an expression without a value, and is refused.
LEFT_OUT: Final = "<left out>"
#: A summary has 1 MiB at most: so many rows and characters of a cell, and so many bytes of all rows, escaped.
_ROWS, _CELL, _MOST = 200, 1000, 2**19
#: Characters of a line of the log, or of an annotation.
_LINE = 4 * _CELL
#: More than any verdict has, in bytes.
_VERDICT_LIMIT: Final = 1 << 26
_TITLES: Final = {0: "verified", 1: "refused"}


def arguments(inputs: Mapping[str, str]) -> list[str]:
    """Build the arguments of `mvm verify` from the action's inputs, by their names in lower case.

    Raises UsageError for an input that is missing, blank, or not one of the action's: no requirement gets lost.
    Blanks around an artifact are part of its name: "app " is another file than "app".
    """
    artifacts = inputs.get("artifacts", "").removesuffix("\n").split("\n")
    problems = [f"{name} is set and empty" for name in OPTIONS if not inputs.get(name, "").strip()]
    if not all(map(str.strip, artifacts)):
        problems.append("artifacts has an empty line, or is empty")
    problems += [
        f"{name[:80]!r} is not an input of the action" for name in sorted(inputs.keys() - {"artifacts", *OPTIONS})
    ]
    if problems:
        hint = "look at the expressions behind `with:`; leave out what isn't required"
        raise UsageError(f"inputs: {'; '.join(problems)}", hint=hint)
    given = [f"--{name}={inputs[name]}" for name in OPTIONS if inputs[name] != LEFT_OUT]
    return ["verify", "--json", *given, "--", *artifacts]


def read_inputs(text: str) -> Mapping[str, str]:
    """Read the inputs as `toJSON(inputs)` writes them; the runner ignores the case of names. Raises UsageError."""
    inputs: object
    try:
        inputs = parse_json(text.encode())
    except ValueError:
        inputs = None
    if not isinstance(inputs, dict) or not all(isinstance(value, str) for value in inputs.values()):
        raise UsageError("INPUTS is not a JSON object of strings", hint="run this as action/action.yml does")
    return {name.lower(): value for name, value in inputs.items()}


def rows(verdict: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What the summary's table says: file, verdict, and who vouches for it or why not."""
    for artifact in verdict.get("artifacts", []):
        if artifact["verified"]:
            for each in artifact["statements"]:
                witness = each.get("witness", f"signed {each['time']}")
                package = f", package {each['package']}" if each["package"] else ""
                who = f"{each['type'] or 'a signature over the file'}{package}, by {_signer(each)} ({witness})"
                yield artifact["artifact"], "verified", who
        for reason in artifact.get("reasons", []):
            yield artifact["artifact"], f"refused [{reason['code']}]", f"{reason['why']}. Next: {reason['next']}"
    if "artifacts" not in verdict:
        if verdict["verified"]:
            seen = verdict.get("witness", f"signed {verdict['time']}")
            who = f"{_signer(verdict)}, {verdict['builder']}, SLSA Build L{verdict['level']} ({seen})"
            yield "image", "verified", who
        for reason in verdict.get("reasons", []):
            yield reason["what"], f"refused [{reason['code']}]", f"{reason['why']}. Next: {reason['next']}"


def _signer(counted: Mapping[str, Any]) -> str:
    identity = counted["identity"]
    return f"{identity['subject']}, certified by {identity['issuer']}" if identity else str(counted["signer"])


def summary(status: int, verdict: Mapping[str, Any] | None, words: str) -> str:
    """The summary, in Markdown."""
    title = "could not verify" if verdict is None else _TITLES.get(status, "could not verify")
    text = f"### mvm verify: {title}\n\n"
    if verdict is None:
        return text + _bounded([f"{escape_markdown(line[:_CELL])}  \n" for line in words.splitlines()])
    text += "| artifact | verdict | |\n| --- | --- | --- |\n"
    return text + _bounded(
        [f"| {' | '.join(escape_markdown(cell[:_CELL]) for cell in row)} |\n" for row in rows(verdict)]
    )


def _bounded(lines: list[str]) -> str:
    """As many lines as fit, and how many do not."""
    shown, size = list[str](), 0
    for line in lines[:_ROWS]:
        size += len(line.encode())
        if size > _MOST:
            break
        shown.append(line)
    return "".join(shown) + (f"\n… and {len(lines) - len(shown)} more\n" if len(shown) < len(lines) else "")


def annotations(verdict: Mapping[str, Any] | None, words: str) -> Iterator[str]:
    """Commands to the runner, so that each reason stands at the run."""
    if verdict is None:
        yield f"::error title=mvm verify::{escape_workflow_data(words.strip()[-_LINE:])}"
        return
    for reason in verdict.get("reasons", [])[:_ROWS]:
        text = f"{reason['what']}: refused [{reason['code']}]: {reason['why']}. Next: {reason['next']}"
        yield f"::error title=mvm verify::{escape_workflow_data(text[:_LINE])}"


def main() -> int:
    """Verify, tell it, and return the exit code of `mvm verify`: 2 for whatever ended without a verdict."""
    status, verdict, words = _verify()
    for line in annotations(verdict, words) if status else ():
        print(line)
    for artifact, said, who in [] if verdict is None else rows(verdict):
        print(escape_workflow_log(f"{artifact}: {said}: {who}"[:_LINE].replace("\n", " ")))
    for variable, text in (
        ("GITHUB_STEP_SUMMARY", summary(status, verdict, words)),
        ("GITHUB_OUTPUT", f"verified={'true' if status == 0 else 'false'}\n"),
    ):
        if variable in os.environ:
            with Path(os.environ[variable]).open("a", encoding="utf-8") as file:
                file.write(text)
    return status


def _verify() -> tuple[int, Mapping[str, Any] | None, str]:
    """Run `mvm verify`; returns its exit code, its verdict if it came to one, and its words on stderr."""
    python = [sys.executable, "-P", "-m", "mvmnix.cli"]
    path = {"PYTHONPATH": str(Path(mvmnix.__file__).parents[1])}
    # the workflow names its artifacts from where its step runs
    env, here = environment(INHERITED_BY_USERS_PROGRAMS, path), str(Path.cwd())
    try:
        asked = arguments(read_inputs(os.environ.get("INPUTS", "")))
        done = run([*python, *asked], env=env, cwd=here, check=False)
    except MvmnixError as error:
        return 2, None, f"mvm: {error}"
    verdict = read_verdict(done.stdout)
    status = 2 if verdict is None or done.status not in _TITLES else done.status
    return status, verdict, done.stderr.decode(errors="replace")


def read_verdict(answer: bytes) -> Mapping[str, Any] | None:
    """The verdict in what `mvm verify --json` printed; None where there is none, as after a crash."""
    try:
        said: Any = parse_json(answer, limit=_VERDICT_LIMIT)
        result = said["result"]
    except (ValueError, LookupError, TypeError):
        return None
    return result if isinstance(result, dict) else None


if __name__ == "__main__":
    sys.exit(main())
