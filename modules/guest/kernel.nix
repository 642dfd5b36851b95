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
  # A shell function: unpacks one into modules/, since the kernel can't read xz here. Without types for BPF, tables for
  # stack traces, symbols that no code refers to and Debian's signature it loads faster (docs/reference/launch.md).
  unpack = ''
    unpack() {
      file=$out/modules/$(basename "$1").ko
      unxz -c "$tree"/usr/lib/modules/*/kernel/"$1".ko.xz > "$file"
      ${tools.strip} --strip-unneeded -R .BTF -R .BTF.base -R '.orc_*' -R '.rela.orc_*' "$file"
    }
  '';
in
{
  inherit modules networkModules;

  # Initcalls of this kernel that boots do without (docs/reference/launch.md): self-tests, certificates for the signatures of
  # modules and lists, a clock that machines don't have, IMA and TOMOYO without a policy, types for tracing and BPF.
  skippedInitcalls = [
    "jent_mod_init" "crypto_kdf108_init"
    "load_system_certificate_list" "init_encrypted"
    "cmos_init" "vga_arb_device_init"
    "init_ima" "tomoyo_initerface_init"
    "trace_eval_init" "param_sysfs_builtin_init" "bpf_tcp_ca_kfunc_init" "bpf_dummy_struct_ops_init"
  ];

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
