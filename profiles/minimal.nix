# A busybox and nothing else; also what every guest starts from, so it sets each of mkGuest's options.
let
  name = "minimal";
in
{
  inherit name;
  pkgs = null;
  parts = _: { };
  packages = p: [ p.busybox-static ];
  without = _: [ ];
  files = {
    "/etc/passwd".text = ''
      root:x:0:0:root:/root:/bin/sh
      mvm:x:1000:1000:mvm:/tmp:/bin/sh
    '';
    "/etc/group".text = ''
      root:x:0:
      mvm:x:1000:
    '';
    "/etc/hosts".text = "127.0.0.1 localhost\n";
  };
  links."/usr/bin/sh" = "busybox";
  command = [ "/bin/busybox" "uname" "-a" ];
  environment = {
    PATH = "/usr/bin:/usr/sbin";
    HOME = "/tmp";
    LANG = "C.UTF-8";
  };
  directory = "/";
  user = { uid = 1000; gid = 1000; };
  vcpus = 1;
  memoryMiB = 128;
  scratchMiB = 32;
  posture = "dev";
  verbs = [ "exec" "shell" "copy" "snapshot" ];
  systemCalls = "default";
  network = false;
  writable = [ "/tmp" "/var/tmp" ];
  kernelParameters = [ ];
}
