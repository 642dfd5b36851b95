"""Runs in a Debian guest as root, and there as other users: what their hypervisors' control groups are, line by line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
print(json.dumps({"name": "alive", "groups": [str(p) for p in GROUPS.iterdir()]}), flush=True)
def sh(cmd):
    r = subprocess.run(cmd, shell=True, capture_output=True, text=True)
    print(json.dumps({"cmd": cmd, "rc": r.returncode, "out": r.stdout[-3000:], "err": r.stderr[-3000:]}), flush=True)
sh("time python3 -c 'import mvmnix.cli.main'")
sh("cat /proc/self/cgroup; id; loginctl list-users; getfattr -d /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service; cat /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers")
A = "runuser -u ada -- env XDG_RUNTIME_DIR=/run/user/1000 "
sh(A + "systemd-run --user --wait --pipe --quiet sh -c 'cat /proc/self/cgroup; env; cd /mvm; python3 -m mvmnix.cli doctor; ls -R /sys/fs/cgroup/user.slice/user-1000.slice | grep mvmnix; true'")
sh("systemd-run --uid=ada -p PAMName=login --wait --pipe --quiet sh -c 'cat /proc/self/cgroup; env'")
sh("systemd-run --uid=eve -p PAMName=login -p WorkingDirectory=/mvm -E PYTHONPATH=/mvm:/mvm/libraries --wait --pipe --quiet sh -c 'cat /proc/self/cgroup; python3 -m mvmnix.cli doctor'")
