"""`mvm show`: the evidence of an image, plan or machine, verified anew, as a tree, as JSON and as one HTML page.

Exit codes: 0 all verified, 1 something refused, 2 something could not be verified.
"""

import sys

import click

from mvmnix.api import open_context
from mvmnix.cli.commands.verify import could_not_verify
from mvmnix.cli.completers import any_machine
from mvmnix.cli.evidence_tree import show_tree
from mvmnix.cli.options.outputs import Destination, OutputType, Stdout
from mvmnix.cli.output import TERMINAL, answer, notice, tell
from mvmnix.clock import now
from mvmnix.errors import RefusedError, UsageError
from mvmnix.evidence.graph import graph_record
from mvmnix.evidence.page import render_page
from mvmnix.evidence.subjects import find_subject, graph_of
from mvmnix.system.output_files import OutputFile


@click.command()
@click.argument("what", metavar="IMAGE|PLAN|MACHINE", shell_complete=any_machine)
@click.option(
    "--html",
    type=OutputType(OutputFile, "FILE", prints=True),
    help="Write a page of HTML that needs no other file; - prints it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the graph as JSON.")
def show(what: str, html: Destination | None, as_json: bool) -> int:
    """Verify the evidence of an image, plan or machine, from source to machine, and show it. Nothing is started.

    IMAGE is the beginning of a manifest's digest, or a directory of `mvm build --out`; PLAN the file of a signed plan;
    MACHINE a name or an id.

    Exit codes: 0 all verified, 1 something refused, 2 something could not be verified.
    """
    if as_json and isinstance(html, Stdout):
        raise UsageError("--json and --html - would both go to stdout", hint="name a file for the page")
    with open_context(TERMINAL) as context, could_not_verify(), context.working():
        found = find_subject(context, what, notice)
        moment = now()
        try:
            graph = graph_of(context, found, moment)
        except RefusedError as refused:  # the policy: without one nothing can be verified
            tell(refused)
            return 2
    if html is not None:
        html.write(render_page(graph, moment).encode())
        if not isinstance(html, Stdout):
            click.echo(f"wrote {html.path}", err=True)
    if as_json:
        answer("evidence", graph_record(graph, moment))
    elif html is None:
        show_tree(graph, sys.stdout)
    elif graph.exit_code:  # the page says why, and so does this
        show_tree(graph, sys.stderr)
    return graph.exit_code
