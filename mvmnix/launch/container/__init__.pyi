from mvmnix.launch.container import crun
from mvmnix.launch.container.crun import Crun
from mvmnix.launch.container.run import run_container

__all__ = ["Crun", "crun", "run_container"]
