# A kernel of nixpkgs in place of the embedded one: out of its bzImage and its modules, the same two parts.
{ build, tools, kernel, package }:
let
  # What 6.12 has as modules beside these, a later one may have built in or have given another name; what it needs all
  # the same, its own modules.dep says.
  incidental = [ "sha256-ssse3" "dm-mod" "dm-bufio" "reed_solomon" "libcrc32c" ];
  names = [ "virtio_console" ] ++ map baseNameOf kernel.modules;
  required = builtins.filter (n: !builtins.elem n incidental) names;
in
{
  # a store path says nothing of its sources
  sources = [ ];

  vmlinux = build.run {
    name = "vmlinux-of-${package.name}";
    inherit package;
    script = ''
      image=$package/bzImage
      ${import ./vmlinux.nix { inherit tools; }}
    '';
  };

  # modules/*.ko uncompressed, and modules/order: each module behind those that its line of modules.dep names
  loadable = build.run {
    name = "kernel-modules-of-${package.name}";
    inherit (package) modules;
    inherit names required;
    script = ''
      cd "$modules"/lib/modules/*
      mkdir -p "$out/modules"
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
        unpack "$1" > "$out/modules/$name"
        echo "$name" >> "$out/modules/order"
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
}
