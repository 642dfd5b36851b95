"""The tools of an agent: each of its calls works in one sandbox, and errors go back to it as text."""

import sys
from collections.abc import Callable, Mapping

import mvmnix
from mvmnix import Sandbox

#: What a model would ask for, one call after the other.
CALLS = (
    ("write_file", {"path": "/tmp/hello.sh", "text": "echo hello from $1"}),
    ("run", {"script": "/bin/sh /tmp/hello.sh agent"}),
    ("read_file", {"path": "/tmp/nosuch"}),
    ("run", {"script": "sleep 60"}),
    ("list_files", {"path": "/tmp"}),
)


def tools(box: Sandbox) -> Mapping[str, Callable[..., str]]:
    """Return the tools by their names."""

    def run(script: str) -> str:
        done = box.shell(script, timeout=10, text=True)
        return f"exit code {done.exit_code}\n{done.stdout}{done.stderr}"

    def write_file(path: str, text: str) -> str:
        box.files.write_text(path, text)
        return f"wrote {path}"

    def list_files(path: str) -> str:
        return " ".join(entry.name for entry in box.files.list(path))

    return {"run": run, "write_file": write_file, "read_file": box.files.read_text, "list_files": list_files}


def main(image: str) -> None:
    """A call that fails is an answer, too; what ends the loop is the machine's end."""
    with Sandbox.run(image, timeout=600) as box:
        known = tools(box)
        for name, arguments in CALLS:
            try:
                call = known[name]
                answer = call(**arguments)
            except (mvmnix.NotRunning, mvmnix.OutcomeUnknown):
                raise
            except mvmnix.Error as error:
                answer = f"error: {error.message}"
            print(f"{name}: {answer.strip()}")


if __name__ == "__main__":
    main(sys.argv[1])
