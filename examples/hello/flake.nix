{
  description = "The smallest guest: one command, and a file to print";

  inputs.mvmnix.url = "path:../..";

  outputs =
    { mvmnix, ... }:
    {
      packages.x86_64-linux.default = mvmnix.lib.mkGuest {
        name = "hello";
        files."/etc/greeting".text = "Hello from a verified microVM.\n";
        command = [ "/bin/busybox" "cat" "/etc/greeting" ];
        posture = "sealed";
      };
    };
}
