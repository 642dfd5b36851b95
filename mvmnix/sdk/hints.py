"""Has hints speak Python: an option of the command line becomes an argument, a command the call that does the same."""

import re
from typing import Final

#: By the option, the argument of `Sandbox.run`, `Image.build` or a call that does the same.
ARGUMENTS: Final = {
    "--again": "again=True",
    "--allow": "network=[Allow(…)]",
    "--allow-preset": "network=[Preset(…)]",
    "--bundle": "bundle=",
    "--certificate-identity": "identity=",
    "--certificate-oidc-issuer": "issuer=",
    "--deny": "network=[Deny(…)]",
    "--accelerator": "accelerator=",
    "--backend": "backend=",
    "--cpu-percent": "cpu_percent=",
    "--cpu-weight": "cpu_weight=",
    "--data": "data=DataDisk(…)",
    "--env": "env={…}",
    "--idle": "idle_timeout=",
    "--image": "image=",
    "--key": "key=",
    "--label": "labels={…}",
    "--leave-out": "leave_out=True",
    "--limit-mib": "limit_mib=",
    "--memory": "memory_mib=",
    "--name": "name=",
    "--out": "out=",
    "--policy": "policy=",
    "--private-launcher": "private_launcher=True",
    "--publish": "network=[Publish(…)]",
    "--secret": "secrets=[Secret.env(…)]",
    "--secret-env": "secrets=[Secret.env(…, as_variable=True)]",
    "--share": "shares=[Share(…)]",
    "--timeout": "timeout=",
    "--vcpus": "vcpus=",
    "--verb": "verbs=[…]",
    "--vsa": "vsa=",
    "--system-calls": "system_calls=",
    "--tasks": "tasks=",
    "--user": "user=",
    "--workdir": "cwd=",
}
#: By the command, the call that does the same.
CALLS: Final = {
    "mvm build": "mvmnix.Image.build(…)",
    "mvm cp": "box.files",
    "mvm exec": "box.exec([…])",
    "mvm image ls": "mvmnix.Image.list()",
    "mvm images": "mvmnix.Image.list()",
    "mvm kill": "box.kill()",
    "mvm launch": "mvmnix.Sandbox.launch(…)",
    "mvm logs": "box.logs()",
    "mvm pause": "box.pause()",
    "mvm plan create": "mvmnix.Plan.draft(…)",
    "mvm plan sign": "plan.sign()",
    "mvm ps": "mvmnix.Sandbox.list()",
    "mvm resume": "box.resume()",
    "mvm run": "mvmnix.Sandbox.run(…)",
    "mvm shell": "box.terminal()",
    "mvm stop": "box.stop()",
    "mvm verify": "mvmnix.verify([…])",
}
_OPTION: Final = re.compile(r"--[a-z][a-z-]*(?![a-z-])")
_COMMAND: Final = re.compile(
    "(?:" + "|".join(sorted(map(re.escape, CALLS), key=len, reverse=True)) + r")(?![a-z-])(?: --all)?"
)
_VERB: Final = re.compile(r"--verb[ =]([a-z]+)")
#: A call, and the arguments that follow on it.
_ARGUMENTS_OF_CALL: Final = re.compile(r"\(…\)((?: [a-z_]+=[^\s`,;]+)+)")


def for_python(text: str) -> str:
    """Return a text of an error with arguments and calls in the place of options and commands.

    >>> for_python("start another one with `mvm run --verb exec`, or look at mvm ps --all")
    "start another one with `mvmnix.Sandbox.run(…, verbs=['exec'])`, or look at mvmnix.Sandbox.list()"
    """
    text = _COMMAND.sub(lambda found: CALLS[found[0].removesuffix(" --all")], text)
    text = _VERB.sub(r"verbs=['\1']", text)
    text = _OPTION.sub(lambda found: ARGUMENTS.get(found[0], found[0]), text)
    return _ARGUMENTS_OF_CALL.sub(lambda found: f"(…, {', '.join(found[1].split())})", text)
