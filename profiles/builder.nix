# The builder VM: Nix and tar, a writable /nix, and one stream to the host through which every input must come.
let
  minimal = import ./minimal.nix;
in
minimal
// {
  name = "builder";
  packages = p: [ p.busybox-static p.nix-bin p.tar ];
  # what nix-bin's Perl scripts would need; the nix program itself does without
  without = p: [ p.perl p.libdbd-sqlite3-perl p.libwww-curl-perl p.curl ];
  files = minimal.files // {
    "/etc/nix/nix.conf".text = ''
      accept-flake-config = false
      allow-import-from-derivation = false
      build-users-group =
      experimental-features = nix-command flakes
      flake-registry =
      http-connections = 8
      max-jobs = auto
      pure-eval = true
      # who answers on that port has verified whatever had to be, and is the only one who answers
      require-sigs = false
      sandbox = true
      sandbox-fallback = false
      store = local
      substituters = http://127.0.0.1:8000
      trusted-public-keys =
      use-registries = false
      warn-dirty = false
    '';
  };
  command = [ ];
  vcpus = 2;
  memoryMiB = 6144;
  scratchMiB = 5120;
  verbs = [ "exec" "stream" ];
  # Nix's own sandbox is made of them
  systemCalls = "namespaces";
  writable = minimal.writable ++ [ "/nix" "/build" ];
}
