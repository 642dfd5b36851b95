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
in
{
  inherit modules;

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

  # modules/*.ko uncompressed, since the kernel can't read xz here, and modules/order, which the agent follows.
  loadable = build.run {
    name = "kernel-modules-${package.version}";
    inherit (package) tree;
    inherit modules onDemand;
    script = ''
      mkdir -p "$out/modules"
      unpack() { unxz -c "$tree"/usr/lib/modules/*/kernel/"$1".ko.xz > "$out/modules/$(basename "$1").ko"; }
      for module in $modules; do
        unpack "$module"
        echo "$(basename "$module").ko" >> "$out/modules/order"
      done
      for module in $onDemand; do unpack "$module"; done
    '';
  };
}
