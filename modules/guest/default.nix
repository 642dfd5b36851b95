# mkGuest: options in, one directory out: kernel, initrd, rootfs and the manifest that describes them.
{ build, packages, tools, agent, kernel, defaults }:
let
  check = import ./check.nix {
    maker = "mkGuest";
    options = import ./options.nix;
    more = import ./choice.nix { inherit packages; };
  };

  # A guest of the embedded set.
  embedded = guest: {
    inherit build tools kernel guest;
    contents = _: import ./embedded.nix { inherit packages guest; };
    write = builtins.toFile;
  };

  # What a guest of nixpkgs starts from: no package, command or link of the embedded set.
  bare = builtins.removeAttrs defaults [ "packages" ] // { command = [ ]; links = { }; };
  ofNixpkgs =
    guest:
    let
      parts = import ./parts.nix { inherit build tools kernel; given = guest.parts guest.pkgs; };
      # The manifest is only text: the closure has already followed what these words name.
      words = builtins.unsafeDiscardStringContext (builtins.toJSON { inherit (guest) command environment directory; });
    in
    parts
    // {
      guest = guest // builtins.fromJSON words;
      contents = files: import ./closure.nix { inherit (parts) build; inherit guest files; };
      # toFile refuses text that names what is yet to be built
      write = name: text: parts.build.run {
        inherit name text;
        passAsFile = [ "text" ];
        script = ''cat "$textPath" > "$out"'';
      };
    };
in
given:
let
  base = if given.pkgs or null == null then defaults else bare;
  checked = check (
    base
    // (if given.posture or "" == "sealed" then { verbs = [ ]; } else { })
    // given
    // { environment = base.environment // given.environment or { }; }
  );
  made = (if checked.pkgs == null then embedded else ofNixpkgs) checked;
  files = import ./files.nix { inherit (made) build write; inherit (checked) files links writable; };
in
import ./assemble.nix { inherit (made) build kernel; inherit agent; } {
  inherit (made) guest;
  rootfs = import ./rootfs.nix {
    inherit (made) build tools;
    inherit (made.guest) network;
    inherit files;
    contents = made.contents files;
  };
}
