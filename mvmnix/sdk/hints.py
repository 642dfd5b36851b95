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
    "--detach": "box.detach()",
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
    "--snapshot-with-secrets": "snapshot_with_secrets=True",
    "--start": "start=",
    "--share": "shares=[Share(…)]",
    "--shares": "shares=",
    "--share-limit": "shared_kib=",
    "--timeout": "timeout=",
    "--valid-for": "hours=",
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
    "mvm --user": "mvmnix.api.become_system_user(…)",
    "mvm audit tail": "mvmnix.Audit.events()",
    "mvm audit verify": "mvmnix.Audit.verify()",
    "mvm build": "mvmnix.Image.build(…)",
    "mvm cp": "box.files",
    "mvm exec": "box.exec([…])",
    "mvm image ls": "mvmnix.Image.list()",
    "mvm images": "mvmnix.Image.list()",
    "mvm kill": "box.kill()",
    "mvm launch": "mvmnix.Sandbox.launch(…)",
    "mvm logs": "box.logs()",
    "mvm logs --console": 'box.logs("console")',
    "mvm net log": "box.network_log()",
    "mvm pause": "box.pause()",
    "mvm plan create": "mvmnix.Plan.draft(…)",
    "mvm plan sign": "plan.sign()",
    "mvm ps": "mvmnix.Sandbox.list()",
    "mvm resume": "box.resume()",
    "mvm run": "mvmnix.Sandbox.run(…)",
    "mvm shell": "box.terminal()",
    "mvm cool": "box.cool()",
    "mvm fork": "box.fork(…)",
    "mvm restore": "mvmnix.Sandbox.restore(…)",
    "mvm snapshot create": "box.snapshot()",
    "mvm snapshot ls": "mvmnix.Snapshot.list()",
    "mvm snapshot rm": "mvmnix.Snapshot.remove(…)",
    "mvm stop": "box.stop()",
    "mvm thaw": "mvmnix.Sandbox.restore(…)",
    "mvm verify": "mvmnix.verify([…])",
    "mvm pool": "mvmnix.Pool",
    "mvm pool ls": "mvmnix.Pool.list()",
    "mvm pool rm": "mvmnix.Pool.remove([…])",
    "mvm pool set": "mvmnix.Pool.set(…)",
    "mvm warm": "mvmnix.Image.warm(…)",
    "mvm warm ls": "mvmnix.Image.templates()",
    "mvm warm rm": "mvmnix.Image.remove_templates([…])",
}
#: What a help text has in the place of a value: SRC:DST:rw, NAME=VALUE, [IP:]HOST:GUEST, /DIRECTORY.
_PLACEHOLDER: Final = r" (?:\[IP:\])?/?[A-Z]{3,}(?:[:=][A-Za-z]+)*(?![\w-])"
#: systemd has options of the same names.
_OPTION: Final = re.compile(rf"(?<!systemd-run )(--[a-z][a-z-]*)(?![a-z-])({_PLACEHOLDER})?")
_COMMAND: Final = re.compile(
    "(" + "|".join(sorted(map(re.escape, CALLS), key=len, reverse=True)) + rf")(?![a-z-])(?: --all)?(?:{_PLACEHOLDER})*"
)
_VERB: Final = re.compile(r"--verb[ =]([a-z]+)")
#: A call, and the arguments that follow on it.
_ARGUMENTS_OF_CALL: Final = re.compile(rf"\((…|\[…\])\)((?: [a-z_]+=[^\s`,;)]*|{_PLACEHOLDER})+)")
_ARGUMENT: Final = re.compile(r"[a-z_]+=\S*")


def for_python(text: str) -> str:
    """Return a text of an error with arguments and calls in the place of options and commands.

    >>> for_python("start another one with `mvm run --verb exec FLAKE`, or look at mvm ps --all")
    "start another one with `mvmnix.Sandbox.run(…, verbs=['exec'])`, or look at mvmnix.Sandbox.list()"
    >>> for_python("mvm verify --policy FILE; --share SRC:DST:rw")
    'mvmnix.verify([…], policy=…); shares=[Share(…)]'
    """
    text = _COMMAND.sub(lambda found: CALLS[found[1]], text)
    text = _VERB.sub(r"verbs=['\1']", text)
    text = _OPTION.sub(_argument, text)
    return _ARGUMENTS_OF_CALL.sub(
        lambda found: f"({found[1]}, {', '.join(_ARGUMENT.findall(found[2]))})" if "=" in found[2] else f"({found[1]})",
        text,
    )


def _argument(found: re.Match[str]) -> str:
    """Return the argument for an option, with … in the place of a value's placeholder."""
    made = ARGUMENTS.get(found[1])
    if made is None:
        return found[0]
    return f"{made}…" if found[2] and made.endswith("=") else made
