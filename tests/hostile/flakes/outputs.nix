# Outputs that are no image, or more than one: what a builder may leave behind to trip whoever takes it in.
{ build, hello }:
let
  make = name: script: build.run { inherit name; script = "mkdir $out\n${script}"; };
  files = "kernel initrd rootfs manifest.json";
  fill = "for file in ${files}; do [ -e $out/$file ] || [ -L $out/$file ] || echo x > $out/$file; done";
  # hello's own files, and something more
  more = name: script: build.run { inherit name hello; script = "cp -r $hello $out; chmod -R u+w $out\n${script}"; };
in
{
  a-link = make "a-link" "ln -s /etc/shadow $out/kernel; ${fill}";
  a-link-to-itself = make "a-link-to-itself" "ln -s kernel $out/kernel; ${fill}";
  a-directory-link = build.run { name = "a-directory-link"; script = "ln -s / $out"; };
  a-fifo = make "a-fifo" "mkfifo $out/kernel; ${fill}";
  a-device = make "a-device" "mknod $out/kernel c 1 5; ${fill}";
  # the one program at hand that makes sockets makes them at the end of a link
  a-socket = make "a-socket" ''
    ln -s $out/kernel /dev/log
    syslogd -n -O /dev/null &
    for i in $(seq 100); do [ -S $out/kernel ] || usleep 100000; done
    kill -9 $!
    [ -S $out/kernel ]
    echo a-socket-is-there >&2
    ${fill}
  '';
  a-set-uid-file = make "a-set-uid-file" "echo x > $out/kernel; chmod 4755 $out/kernel; ${fill}";
  hard-links = make "hard-links" "echo x > $out/kernel; ln $out/kernel $out/initrd; ${fill}";
  no-files = make "no-files" "true";
  a-file = build.run { name = "a-file"; script = "echo x > $out"; };
  a-large-manifest = make "a-large-manifest" "dd if=/dev/zero of=$out/manifest.json bs=1M count=6 2>/dev/null; ${fill}";
  a-forged-manifest = build.run {
    name = "a-forged-manifest";
    inherit hello;
    script = "mkdir $out; for file in ${files}; do cp $hello/$file $out/$file; done; echo x > $out/kernel 2>/dev/null || { chmod u+w $out/kernel; echo x > $out/kernel; }";
  };
  forged-digests = more "forged-digests" "sed -i 's/\"sha256\":\"[0-9a-f]*\"/\"sha256\":\"${builtins.hashString "sha256" "x"}\"/g' $out/manifest.json";
  forged-verity = more "forged-verity" "sed -i 's/\"root\":\"[0-9a-f]*\"/\"root\":\"${builtins.hashString "sha256" "x"}\"/' $out/manifest.json";
  forged-sources = more "forged-sources" "sed -i 's|mirror://debian/pool/main/b/busybox|mirror://debian/pool/main/b/trojan|' $out/manifest.json";
  forged-provenance = more "forged-provenance" "echo '{}' > $out/provenance.sigstore.json; echo '{}' > $out/flake.lock";
  odd-names = more "odd-names" ''
    touch "$out/.. ." "$out/a
    b" "$(printf "$out/\\377\\376")" "$out/-rf" "$out/--checkpoint-action=exec=sh"
    ln -s / "$out/everything"
  '';
}
