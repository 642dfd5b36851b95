# Evaluations and builders that reach for what isn't theirs; each prints what it found, and fails.
{ system, build }:
let
  # a builder that ends with its findings, for the caller to read in its last words
  probe = name: script: build.run { inherit name; script = "${script}\necho probe-is-over; exit 1"; };
  derived = changes: derivation ({ inherit system; name = "x"; builder = "/bin/sh"; args = [ "-c" "exit 1" ]; } // changes);
in
{
  # evaluation
  recursion = let f = x: 1 + f (x + 1); in f 0;
  black-hole = let x = x + 1; in x;
  unpinned-url = builtins.readFile (builtins.fetchurl "https://host.example/x");
  pinned-url = builtins.readFile (builtins.fetchurl { url = "https://host.example/x"; sha256 = "0000000000000000000000000000000000000000000000000000"; });
  unpinned-tarball = import (builtins.fetchTarball "https://host.example/x.tar.gz");
  unpinned-git = import (builtins.fetchGit "https://host.example/x.git");
  unpinned-tree = import (builtins.fetchTree "github:a/b");
  host-file = builtins.readFile "/etc/passwd";
  endless-file = builtins.readFile "/dev/zero";
  host-directory = builtins.attrNames (builtins.readDir "/etc");
  top-directory = throw "seen at the top: ${toString (builtins.attrNames (builtins.readDir "/"))}.";
  search-path = import <nixpkgs>;
  clock = builtins.currentTime;
  variable = if builtins.getEnv "HOME" == "" then throw "no-home-seen" else throw "home-seen";
  executed = builtins.exec [ "/bin/sh" "-c" "id" ];
  native = builtins.importNative "/usr/lib/x.so" "f";
  imported = import (build.run { name = "code"; script = "echo 1 > $out"; });
  foreign-path = builtins.storePath "/nix/store/00000000000000000000000000000000-x";
  upwards = builtins.readFile ./../../../etc/passwd;
  painted = throw "[2J]0;title‮";

  # what a derivation may ask of Nix
  no-sandbox = derived { __noChroot = true; };
  impure = derived { __impure = true; };
  recursive = derived { requiredSystemFeatures = [ "recursive-nix" ]; };
  foreign-system = derived { system = "aarch64-linux"; };
  fetched-by-nix = derived { builder = "builtin:fetchurl"; url = "http://169.254.169.254/latest"; };
  metadata = derived {
    urls = [ "http://169.254.169.254/latest/meta-data" ];
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = "0000000000000000000000000000000000000000000000000000000000000001";
  };
  # the address of a server on the host, which the test has listed; it serves something else
  other-bytes = derived {
    name = "other-bytes";
    urls = [ "${builtins.readFile ./origin}/pinned" ];
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = builtins.hashString "sha256" "what was pinned";
  };
  wanted = derived { outputHash = "0000000000000000000000000000000000000000000000000000000000000002"; outputHashAlgo = "sha256"; };

  # builders
  network = probe "network" ''
    wget -T 3 -O - http://127.0.0.1:8000/nix-cache-info && echo REACHED-the-cache
    wget -T 3 -O - http://10.0.2.2/ && echo REACHED-a-gateway
    wget -T 3 -O - http://169.254.169.254/ && echo REACHED-metadata
    echo interfaces: $(ls /sys/class/net 2>/dev/null) and: $(cut -d: -f1 /proc/net/dev | tail -n +3)
    echo routes: $(tail -n +2 /proc/net/route | wc -l)
  '';
  machine = probe "machine" ''
    for file in /dev/vda /dev/mem /dev/kmsg /dev/vport0p1 /dev/vport1p1 /dev/virtio-ports /dev/hvc0 /dev/ttyS0 /dev/console /scratch; do
      [ -e "$file" ] && echo "SEEN $file"
    done
    echo user: $(id -u) caps: $(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status) new-privs: $(sed -n 's/^NoNewPrivs:[[:space:]]*//p' /proc/self/status)
    mknod dev b 253 0 && echo MADE-a-device
    mount -t tmpfs none /tmp && echo MOUNTED
    find /dev /tmp /build -name 'vport*' -o -type s | sed 's/^/SEEN /'
  '';
  host = probe "host" ''
    for file in /etc/nix /etc/shadow /root /home /usr /run /var; do
      cat "$file" >/dev/null 2>&1 && echo "READ $file"
      [ -d "$file" ] && echo "FOUND $file"
    done
    echo x > /proc/sys/kernel/core_pattern && echo WROTE-a-sysctl
    echo at the top: $(ls /)
    echo builds: $(ls /build)
  '';
  # two at once: one has something to hide, and works for ever; the other looks for it, and for its process
  neighbours = build.run {
    name = "neighbours";
    script = "exit 1";
    works = build.run {
      name = "works";
      secret = "a-neighbours-secret";
      script = "echo $secret > note; echo $secret > /tmp/note; echo the-neighbour-works >&2; sleep 1000000";
    };
    looks = probe "looks" ''
      for round in $(seq 20); do
        for file in /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/cwd/note /build/* /build/*/* /tmp/* /nix/var/nix/builds/*/*; do
          grep -q "a-neighbours-[s]ecret" "$file" 2>/dev/null && echo "FOUND $file"
        done
        for process in /proc/[0-9]*; do
          grep -q "^Name:.*sleep" $process/status && echo "FOUND $process"
        done
        usleep 200000
      done
      echo the-last-look
    '';
  };
  store = probe "store" ''
    echo evil > /nix/store/evil && echo WROTE-the-store
    for path in /nix/store/*; do
      [ "$path" = /nix/store/evil ] && continue
      echo evil 2>/dev/null > "$path" && echo WROTE-an-input
      echo evil 2>/dev/null > "$path/evil" && echo WROTE-into-an-input
    done
    ls /nix/var 2>/dev/null && echo SAW-the-database
    echo paths: $(ls /nix/store | wc -l)
  '';
  flood = probe "flood" "(yes flooding || true) | head -c 1000000; echo";
  words = probe "words" "printf '\\033[2J \\233\\302\\2332J painted \\342\\200\\256 \\033]0;title\\007\\n'";
}
