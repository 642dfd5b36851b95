"""Builds examples/hello, verifies it, runs it twice and prints the receipts, without the command line."""

import tempfile
from pathlib import Path

from mvmnix.api import (
    PlanOptions,
    Use,
    admit_plan,
    become_system_user,
    draft_plan,
    export_image,
    host_for,
    open_context,
    open_image_builder,
    read_receipt,
    run_attached,
    sign_plan,
    source_ref,
    verify_image,
)
from mvmnix.system.output_files import NewDirectory

HELLO = Path(__file__).parent / "hello"


def main() -> None:
    """Each step returns what the next one needs, or raises MvmnixError."""
    become_system_user()  # where root runs this; nothing for a plain user
    with open_context() as context, tempfile.TemporaryDirectory() as scratch:
        context.initialize()  # on first use: makes keys, and a policy that trusts them
        with open_image_builder(context) as images:
            image = images.image(source_ref(str(HELLO)))
        export_image(context, image, NewDirectory(f"{scratch}/hello"))
        verified = verify_image(context.policy, Path(scratch) / "hello")
        print(f"verified: {verified.image.name}, SLSA Build L{verified.provenance.level}")
        bundle = sign_plan(context, draft_plan(context, image, PlanOptions(use=Use.WITHIN_WINDOW)))
        for _ in range(2):
            with admit_plan(context, bundle) as plan:
                ran = run_attached(plan, host_for(context, plan), stdout=show, stderr=show)
            print(read_receipt(context, ran.machine_id))


def show(data: bytes) -> None:
    """Print what the guest says, as it comes."""
    print(data.decode(), end="", flush=True)


if __name__ == "__main__":
    main()
