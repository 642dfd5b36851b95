# What nixpkgs puts into a guest: the store closure of its packages and of all that its options name, under /nix/store.
{ build, guest, files }:
let
  # where a package's programs are; an output that was chosen by hand stays chosen (nixpkgs: lib.getBin)
  programs = p: if p.outputSpecified or false then p else p.bin or p.out or p;
  roots = map (p: "${programs p}") (guest.packages guest.pkgs);

  # Every word and byte of the guest that lies outside its /nix/store, in one file. Nix looks for store paths in it, as
  # in each output, so its references are what the guest mentions, and their closure is what the guest needs.
  mentions = build.run {
    name = "guest-mentions";
    inherit roots;
    words = builtins.toJSON { inherit (guest) command environment directory links; };
    passAsFile = [ "words" ];
    script = ''
      echo "$roots" > "$out"
      cat "$wordsPath" ${builtins.concatStringsSep " " files.sources} >> "$out"
    '';
  };
in
{
  # A store path says nothing of the files it was once made from; provenance lists what came into the build.
  sources = [ ];

  attributes = {
    inherit roots mentions;
    exportReferencesGraph = [ "closure" "${mentions}" ];
  };

  script = ''
    mkdir -p root/nix/store
    # for each path: the path, its deriver, how many references, and that many lines
    awk 'left > 0 { left--; next } line == 0 { path = $0 } line == 2 { left = $0 + 0; print path } { line = (line + 1) % 3 }' \
      closure | sort > paths
    while read -r path; do
      if [ "$path" != "$mentions" ]; then cp -a "$path" root/nix/store/; fi
    done < paths
    # of two programs with one name, the first package's
    for package in $roots; do
      for program in "$package"/bin/*; do
        link=root/usr/bin/$(basename "$program")
        if [ -e "$program" ] && [ ! -L "$link" ]; then ln -s "$program" "$link"; fi
      done
    done
  '';
}
