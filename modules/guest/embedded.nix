# What the embedded package set puts into a guest: the unpacked packages, laid over one another as Debian lays them.
{ packages, guest }:
let
  closure = packages.closure {
    roots = guest.packages packages;
    without = guest.without packages;
  };
in
{
  # what the manifest lists
  sources = map (p: p.source) closure;

  attributes.trees = map (p: p.tree) closure;

  script = ''
    # a package's directories come read-only out of the store; the next package must be able to add to them
    add() {
      cp -a "$1"/. root/
      (cd "$1"; find . -type d -print0) | (cd root; xargs -0 chmod u+w)
    }
    for tree in $trees; do add "$tree"; done
    rm -rf root/usr/share/doc root/usr/share/man root/usr/share/locale root/usr/share/bug root/usr/share/lintian
  '';
}
