# What mkGuest takes, with what each option must be: one line per option, every problem named at once.
let
  inherit (builtins) all isAttrs isBool isInt isList isString match attrNames attrValues stringLength;
  strings = list: isList list && all isString list;
  absolute = path: isString path && match "/[^\n]*" path != null && match ".*/\\.\\.?(/.*)?" path == null;
  between = low: high: n: isInt n && n >= low && n <= high;
  # A kernel parameter is one word; whatever else stood in it would become another parameter.
  parameter = text: isString text && match "[]!-~[]+" text != null && match ".*[\"\\].*" text == null;
in
{
  name = {
    must = "be a name: letters, digits, '-', '_' or '.', at most 64";
    is = v: isString v && match "[A-Za-z0-9][A-Za-z0-9._-]*" v != null && stringLength v <= 64;
  };
  pkgs = {
    must = "be null, or nixpkgs' packages for x86_64-linux, such as nixpkgs.legacyPackages.x86_64-linux";
    is = v: v == null || isAttrs v && (v.stdenv.hostPlatform.system or "x86_64-linux") == "x86_64-linux";
  };
  parts = {
    must = "be a function from 'pkgs' to packages that take the place of mvm's own: { kernel, busybox, erofs-utils, cryptsetup }";
    is = builtins.isFunction;
  };
  packages = {
    must = "be a function from the package set to a list of packages";
    is = builtins.isFunction;
  };
  without = {
    must = "be a function from the package set to the packages to leave out";
    is = builtins.isFunction;
  };
  files = {
    must = "map absolute paths to { text or source, executable ? false }";
    is = v: isAttrs v && all absolute (attrNames v)
      && all (f: isAttrs f && (f ? text != f ? source) && isBool (f.executable or false)) (attrValues v);
  };
  links = {
    must = "map absolute paths to the targets of symbolic links";
    is = v: isAttrs v && all absolute (attrNames v) && all isString (attrValues v);
  };
  command = {
    must = "be a list of strings, the first an absolute path";
    is = v: strings v && (v == [ ] || absolute (builtins.head v));
  };
  environment = {
    must = "map names to strings";
    is = v: isAttrs v && all isString (attrValues v) && all (n: match "[A-Za-z_][A-Za-z0-9_]*" n != null) (attrNames v);
  };
  directory = { must = "be an absolute path"; is = absolute; };
  user = {
    must = "be { uid, gid } other than root's";
    is = v: isAttrs v && attrNames v == [ "gid" "uid" ] && all (between 1 4294967294) (attrValues v);
  };
  vcpus = { must = "be between 1 and 64"; is = between 1 64; };
  memoryMiB = { must = "be between 96 and 1048576"; is = between 96 1048576; };
  scratchMiB = { must = "be between 1 and 1048576"; is = between 1 1048576; };
  posture = { must = "be \"dev\" or \"sealed\""; is = v: builtins.elem v [ "dev" "sealed" ]; };
  verbs = {
    must = "be a list of \"exec\", \"shell\", \"copy\", \"stream\" and \"snapshot\"";
    is = v: isList v && all (x: builtins.elem x [ "exec" "shell" "copy" "stream" "snapshot" ]) v;
  };
  systemCalls = {
    must = "be \"default\", \"strict\" or \"namespaces\"";
    is = v: builtins.elem v [ "default" "strict" "namespaces" ];
  };
  network = {
    must = "be true or false";
    is = isBool;
  };
  writable = {
    must = "be a list of absolute paths";
    is = v: isList v && all absolute v;
  };
  kernelParameters = {
    must = "be a list of kernel parameters: printable words without spaces or quotes";
    is = v: isList v && all parameter v;
  };
}
