"""Builds examples/hello, verifies it, runs it twice and prints the receipts, without the command line."""

import sys
import tempfile
from pathlib import Path

from mvmnix import api  # each of its names is imported when it is used

HELLO = Path(__file__).parent / "hello"


def main() -> None:
    """Each step returns what the next one needs, or raises MvmnixError."""
    api.become_system_user()  # where root runs this; nothing for a plain user
    with api.open_context() as context, tempfile.TemporaryDirectory() as scratch:
        context.initialize()  # on first use: makes keys, and a policy that trusts them
        with api.open_image_builder(context) as images:
            image = images.image(api.existing_source_ref(str(HELLO)))
        api.export_image(context, image, api.NewDirectory(f"{scratch}/hello"))
        verified = api.verify_image(context.policy, Path(scratch) / "hello")
        print(f"verified: {verified.image.name}, SLSA Build L{verified.provenance.level}")
        options = api.PlanOptions(use=api.Use.WITHIN_WINDOW)
        bundle = api.sign_plan(context, api.draft_plan(context, image, options))
        for _ in range(2):
            with api.admit_plan(context, bundle) as plan:
                ran = api.run_attached(plan, api.host_for(context, plan), stdout=show, stderr=show)
            print(api.read_receipt(context, ran.machine_id))


def show(data: bytes) -> None:
    """Print what the guest says, as it comes."""
    print(data.decode(), end="", flush=True)


if __name__ == "__main__":
    try:
        main()
    except api.MvmnixError as error:
        print(error, file=sys.stderr)  # why, and what to do next
        sys.exit(error.exit_code)
