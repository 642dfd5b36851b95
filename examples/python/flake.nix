{
  description = "Debian's Python with numpy, running a script from this flake";

  inputs.mvmnix.url = "path:../..";

  outputs =
    { mvmnix, ... }:
    {
      packages.x86_64-linux.default = mvmnix.lib.mkGuest (
        mvmnix.lib.profiles.python
        // {
          name = "python-script";
          files = mvmnix.lib.profiles.python.files // {
            "/srv/solve.py".source = ./solve.py;
          };
          command = [ "/usr/bin/python3" "/srv/solve.py" ];
        }
      );
    };
}
