# A kernel of nixpkgs in place of the embedded one: out of its bzImage and its modules, the same two parts.
{ build, tools, kernel, package }:
let
  # What 6.12 has as modules beside these, a later one may have built in or have given another name; what it needs all
  # the same, its own modules.dep says.
  incidental = [ "sha256-ssse3" "dm-mod" "dm-bufio" "reed_solomon" "libcrc32c" "failover" "net_failover" ];
  names = [ "virtio_console" ] ++ map baseNameOf kernel.modules;
  required = wanted: builtins.filter (n: !builtins.elem n incidental) wanted;
  networkNames = map baseNameOf kernel.networkModules;

  # modules/*.ko uncompressed, and modules/LIST: each module behind those that its line of modules.dep names, without
  # those that are in `others` already
  collect =
    { name, list, names, others ? "/no-such-directory" }:
    build.run {
      inherit name list names others;
      inherit (package) modules;
      required = required names;
      script = ''
        cd "$modules"/lib/modules/*
        mkdir -p "$out/modules"
        touch "$out/modules/$list"
        unpack() {
          case $1 in
            *.xz) unxz -c "$1" ;;
            *.zst) ${tools.zstd} -q -d -c "$1" ;;
            *.gz) gunzip -c "$1" ;;
            *) cat "$1" ;;
          esac
        }
        added=" "
        add() {
          case $added in *" $1 "*) return 0 ;; esac
          added="$added$1 "
          for needed in $(awk -v file="$1:" '$1 == file { $1 = ""; print }' modules.dep); do add "$needed"; done
          name=$(basename "$1" | sed 's/\.ko.*/.ko/')
          if [ -e "$others/modules/$name" ]; then return 0; fi
          unpack "$1" > "$out/modules/$name"
          echo "$name" >> "$out/modules/$list"
        }
        for module in $names; do
          file=$(sed -n "s|^\([^:]*/$module\.ko[^:/]*\):.*|\1|p" modules.dep)
          if [ -n "$file" ]; then
            add "$file"
          elif ! grep -q "/$module\.ko" modules.builtin; then
            case " $required " in *" $module "*) echo "this kernel has no $module" >&2; exit 1 ;; esac
          fi
        done
      '';
    };
in
rec {
  # a store path says nothing of its sources
  sources = [ ];

  # of a kernel that is not known: a self-test that takes a third of the boot
  skippedInitcalls = [ "jent_mod_init" ];

  vmlinux = build.run {
    name = "vmlinux-of-${package.name}";
    inherit package;
    script = ''
      image=$package/bzImage
      ${import ./vmlinux.nix { inherit tools; }}
    '';
  };

  # in modules/order
  loadable = collect {
    name = "kernel-modules-of-${package.name}";
    list = "order";
    inherit names;
  };

  # in modules/network, for images with `network`
  networking = collect {
    name = "network-modules-of-${package.name}";
    list = "network";
    names = networkNames;
    others = loadable;
  };
}
