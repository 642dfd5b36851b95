# The kernel that guests boot: Debian's cloud kernel, unpacked to the ELF file that boots fastest, and its modules.
{ build, packages, tools }:
let
  # the package that Debian's metapackage names today
  package = packages.${builtins.head packages.linux-image-cloud-amd64.depends};

  # In the order in which they load; each one's dependencies stand before it.
  modules = [
    "drivers/virtio/virtio_mmio"
    "drivers/block/virtio_blk"
    "arch/x86/crypto/sha256-ssse3" # halves what verity costs under TCG
    "drivers/md/dm-mod"
    "drivers/md/dm-bufio"
    "lib/reed_solomon/reed_solomon"
    "drivers/md/dm-verity"
    "lib/libcrc32c"
    "fs/erofs/erofs"
  ];
  # Beside them, and not in that order: what the agent loads for a rebuild alone (agent/reverse_dirs.c).
  onDemand = [ "drivers/block/loop" ];
  # What the agent loads, in this order, for a plan with a network; only images with `network` have them.
  networkModules = [
    "net/core/failover"
    "drivers/net/net_failover"
    "drivers/net/virtio_net"
  ];
  # A shell function: unpacks one into modules/. The kernel can't read xz here.
  unpack = ''
    unpack() { unxz -c "$tree"/usr/lib/modules/*/kernel/"$1".ko.xz > "$out/modules/$(basename "$1").ko"; }
  '';
in
{
  inherit modules networkModules;

  # what the manifest lists
  sources = [ package.source ];

  vmlinux = build.run {
    name = "vmlinux-${package.version}";
    inherit (package) tree;
    script = ''
      image=$(echo "$tree"/boot/vmlinuz-*)
      ${import ./vmlinux.nix { inherit tools; }}
    '';
  };

  # modules/*.ko, and modules/order, which the agent follows.
  loadable = build.run {
    name = "kernel-modules-${package.version}";
    inherit (package) tree;
    inherit modules onDemand;
    script = ''
      mkdir -p "$out/modules"
      ${unpack}
      for module in $modules; do
        unpack "$module"
        echo "$(basename "$module").ko" >> "$out/modules/order"
      done
      for module in $onDemand; do unpack "$module"; done
    '';
  };

  # The same with modules/network, for images with `network`.
  networking = build.run {
    name = "network-modules-${package.version}";
    inherit (package) tree;
    inherit networkModules;
    script = ''
      mkdir -p "$out/modules"
      ${unpack}
      for module in $networkModules; do
        unpack "$module"
        echo "$(basename "$module").ko" >> "$out/modules/network"
      done
    '';
  };
}
