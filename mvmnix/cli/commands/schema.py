"""`mvm schema`: prints the schemas of documents, for editors and other programs."""

import click

from mvmnix.cli.output import answer, table
from mvmnix.formats import schemas


@click.command()
@click.argument("name", required=False, metavar="[NAME]", type=click.Choice(schemas.NAMES))
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def schema(name: str | None, as_json: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of the document NAME; without NAME, list those that have one.

    For a TOML document the schema has a time as a string of the format date-time. The reader of a document decides
    what is accepted, and knows more than a schema can say: that names are unique, and that what refers to one finds it.
    """
    if name is not None and as_json:
        raise click.UsageError("a schema is JSON anyway: --json goes with the list")
    if name is not None:
        click.echo(schemas.read(name), nl=False)
        return
    titles = {each: str(schemas.parsed(each)["title"]) for each in schemas.NAMES}
    if as_json:
        answer("schemas", [{"name": each, "title": title} for each, title in titles.items()])
        return
    table(("NAME", "DOCUMENT"), titles.items())
