# The root file system of an OCI image: its layers, merged in memory into one archive, of which erofs is made.
{ build, packages, tools }:
{ described, writable, network }:
let
  seal = import ../guest/seal.nix { inherit tools; };

  # By digest, so each address stands for one file; a layer that comes twice is one source.
  source = pin: {
    uri = pin.url;
    name = "oci-${pin.sha256}";
    inherit (pin) sha256;
  };
  fetched = pin: build.pin { url = pin.url; name = "oci-${pin.sha256}"; hash = pin.sha256; };
  distinct = list: builtins.attrValues (builtins.listToAttrs (map (s: { name = s.sha256; value = s; }) list));

  # What the interpreter needs; its packages name more for a whole system.
  interpreter = packages.closure {
    roots = [ packages."python3.13-minimal" ];
    without = [ packages.openssl-provider-legacy ];
  };
  libraries = builtins.concatStringsSep ":" (map (p: "${p.tree}/usr/lib/x86_64-linux-gnu") interpreter);
  library = p: "${packages.${p}.tree}/usr/lib/python3.13";
  python = "${packages.libc6.tree}/usr/lib64/ld-linux-x86-64.so.2 --library-path ${libraries} ${
    packages."python3.13-minimal".tree
  }/usr/bin/python3.13 -S -B";
in
{
  inherit (seal) uuid salt;
  sources = distinct (map source (described.pins ++ described.layers));

  image = build.run {
    name = "rootfs";
    code = builtins.path {
      name = "oci-code";
      path = ./.;
      filter = path: type: type == "regular" && builtins.match ".*\\.py" path != null;
    };
    # The manifest and the configuration came in by hash like the layers, so that provenance names them.
    pins = map fetched described.pins;
    layers = map fetched described.layers;
    described = builtins.toFile "image.json" (builtins.toJSON (described // { inherit writable network; }));
    PYTHONHOME = "${packages."libpython3.13-minimal".tree}/usr";
    PYTHONPATH = "code:${library "libpython3.13-minimal"}:${library "libpython3.13-stdlib"}:${
      library "libpython3.13-stdlib"
    }/lib-dynload";
    script = ''
      mkdir -p "$out" code/modules
      cp -r "$code" code/modules/oci
      ${python} -m modules.oci.apply "$described" "$out/user" $layers |
        ${tools.mkfs-erofs} --quiet --tar=f -T0 -U ${seal.uuid} -x-1 -zlz4 "$out/rootfs"
      ${seal.script}
    '';
  };
}
