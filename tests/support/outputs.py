"""Writes to an output of any type."""

from typing import Final

from mvmnix.system.output_files import NewDirectory, NewFile, OutputDirectory, OutputFile

type Output = OutputFile | NewFile | NewDirectory | OutputDirectory

DATA: Final = b"what a stranger chose"


def write(out: Output) -> None:
    """Write the data to a file, or to the file `inner` of a directory."""
    match out:
        case OutputFile() | NewFile():
            out.write(DATA)
        case NewDirectory():
            with out.make() as place:
                place.write("inner", DATA)
        case OutputDirectory():
            with out.open() as place:
                place.write("inner", DATA)
