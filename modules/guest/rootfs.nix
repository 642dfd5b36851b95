# The root file system: an erofs image of packages and files, and behind it its dm-verity hash tree.
{ build, tools, contents, files, network }:
let
  seal = import ./seal.nix { inherit tools; };
  # What the agent mounts the machine's own over (agent/name_files.c) has to be a file, and no link that leads elsewhere.
  covered = ''
    for file in root/etc/resolv.conf root/etc/hosts; do
      if [ -L "$file" ] || [ ! -f "$file" ]; then
        rm -rf "$file"
        : > "$file"
      fi
    done
  '';
  # What update-ca-certificates(8) would make when the package is configured: one file of all certificates, the package's
  # and the image's own, in the order of their paths. A bundle that the image brings stays.
  certificates = ''
    for directory in usr/share/ca-certificates usr/local/share/ca-certificates; do
      if [ -d "root/$directory" ]; then (cd root && find "$directory" -type f -name '*.crt'); fi
    done | sort > certificates
    bundle=root/etc/ssl/certs/ca-certificates.crt
    if [ -s certificates ] && [ ! -e "$bundle" ] && [ ! -L "$bundle" ]; then
      mkdir -p root/etc/ssl/certs
      while read -r file; do awk 1 < "root/$file"; done < certificates > "$bundle"
    fi
  '';
in
{
  inherit (seal) uuid salt;
  inherit (contents) sources;

  # Hard links are written as files: a NAR has none, so whether a store path has any depends on how it came here.
  image = build.run (
    contents.attributes
    // {
      name = "rootfs";
      script = ''
        # usrmerge by hand, since base-files' maintainer script does not run
        for dir in bin sbin lib lib64; do
          mkdir -p "root/usr/$dir"
          ln -s "usr/$dir" "root/$dir"
        done
        ${contents.script}
        mkdir -p root/dev root/proc root/sys root/run root/tmp root/etc
        ${files.script}
        ${certificates}
        ${if network then covered else ""}

        mkdir "$out"
        ${tools.mkfs-erofs} --quiet -T0 -U ${seal.uuid} --all-root --hard-dereference -x-1 -zlz4 "$out/rootfs" root
        ${seal.script}
      '';
    }
  );
}
